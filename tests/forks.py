"""Commands as they are typed, in processes forked from one that has imported what they need.

A start of Python takes seven seconds of a processor until torch and diffusers are there, and a test that types thirty
commands pays them once.
"""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from subprocess import CompletedProcess

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["hldm.pipeline", "matplotlib.figure", "torch._dynamo", "torch_fidelity", "torchmetrics.functional.image"]
)


def type_in(
    folder: Path, words: Sequence[str], environment: Mapping[str, str], *, seconds: float = 600
) -> CompletedProcess[str]:
    """What `python <words>` does in this folder, where words are a script or `-m` and a module, and arguments."""
    files = folder / ".typed.out", folder / ".typed.err"
    process = FORKS.Process(target=_run, args=(str(folder), list(words), dict(environment), [*map(str, files)]))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
    assert process.exitcode is not None
    out, err = (file.read_text(encoding="utf-8") for file in files)
    return CompletedProcess(words, process.exitcode, out, err)


def _run(folder: str, words: list[str], environment: dict[str, str], files: list[str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    with ExitStack() as stack:
        for name, stream in zip(files, (1, 2), strict=True):
            os.dup2(stack.enter_context(open(name, "w", encoding="utf-8")).fileno(), stream)
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
