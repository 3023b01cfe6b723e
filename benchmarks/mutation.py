"""Mutation testing: one operator, sign, comparison, constant or function of a module is changed at a time.

    python -W ignore benchmarks/mutation.py hldm/nn/linear.py tests/nn/test_layers.py [more tests]

Prints every change that all tests passed with: a gap in the tests, or a change that changes nothing. Each change runs
in a fork of this process, which has imported everything but hldm, so it takes as long as its tests take.
"""

import ast
import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

LIMIT = 300
"""Seconds for one change: an endless loop counts as seen."""

OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}
COMPARISONS = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq}
FUNCTIONS = {
    "sinh": "tanh", "cosh": "sinh", "tanh": "sinh", "arsinh": "sinh", "atanh": "tanh", "tanhc": "sinhc",
    "sinhc": "tanhc", "asinhc": "atanhc", "atanhc": "asinhc", "log_sinhc": "tanhc", "spread": "log_sinhc_slope",
    "sqrt": "square", "rsqrt": "sqrt", "square": "abs", "exp": "expm1", "expm1": "exp", "log": "log1p",
    "log1p": "log", "sum": "mean", "mean": "sum", "minimum": "maximum", "maximum": "minimum",
}  # fmt: skip


def mutants(source: str) -> Iterator[tuple[ast.AST, int, str]]:
    """(changed tree, line, what was changed), for every change of the source."""
    for index, node in enumerate(ast.walk(ast.parse(source))):
        if (change := changed(node)) is None:
            continue
        before = ast.unparse(node)
        tree = ast.parse(source)
        target = list(ast.walk(tree))[index]
        for name, value in change.items():
            setattr(target, name, value)
        yield ast.fix_missing_locations(tree), getattr(node, "lineno", 0), f"{before}  →  {ast.unparse(target)}"


def changed(node: ast.AST) -> dict[str, object] | None:
    """Attribute → its new value, or None where nothing of a formula stands."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return {"op": OPERATORS[type(node.op)]()}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        return {"op": ast.UAdd()}
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        return {"ops": [COMPARISONS[type(node.ops[0])]()]}
    if isinstance(node, ast.Constant) and type(node.value) is float:
        return {"value": 1.25 * node.value if node.value else 1.0}
    if isinstance(node, ast.keyword) and node.arg in ("min", "max"):
        return {"arg": "max" if node.arg == "min" else "min"}
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in FUNCTIONS:
        return {"attr": FUNCTIONS[node.attr]}
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in FUNCTIONS:
        return {"id": FUNCTIONS[node.id]}
    return None


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a changed tree."""

    def __init__(self, module: str, path: Path, tree: ast.AST) -> None:
        self.module, self.path, self.tree = module, path, tree

    def find_spec(self, name: str, path: object, target: object = None) -> object:
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.module else None

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: object) -> None:
        exec(compile(self.tree, str(self.path), "exec"), vars(module))


def is_seen(module: str, path: Path, tree: ast.AST, tests: list[str]) -> bool:
    """Whether a test fails with the changed module."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        sys.meta_path.insert(0, Finder(module, path, tree))
        import pytest

        # hypothesis is imported already, which its plugin and the rewriting of asserts would complain of
        ignored = ["-W", "ignore::pytest.PytestAssertRewriteWarning", "-W", "ignore::pytest.PytestConfigWarning"]
        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *ignored, *tests])))
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status != 0
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def main() -> None:
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    path, tests = Path(sys.argv[1]), sys.argv[2:]
    module = ".".join(path.with_suffix("").parts)
    sys.path.insert(0, str(Path.cwd()))
    for name in ("torch", "torch.testing", "hypothesis.strategies", "mpmath", "geoopt", "scipy.stats", "scipy.special"):
        importlib.import_module(name)  # before the forks; nothing of hldm, which has to be imported anew
    source = path.read_text(encoding="utf-8")
    if is_seen(module, path, ast.parse(source), tests):
        raise SystemExit(f"The tests fail without a change: pytest -x {' '.join(tests)}")
    total = survived = 0
    for tree, line, what in mutants(source):
        total += 1
        if not is_seen(module, path, tree, tests):
            survived += 1
            print(f"{path}:{line}  {what}", flush=True)
    print(f"{total} changes, {survived} not seen by {' '.join(tests)}")


if __name__ == "__main__":
    main()
