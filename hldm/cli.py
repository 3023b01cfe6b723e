"""`python train.py …`: arguments → checked configurations → runs.

Hydra composes; what it cannot say well is said here. A wrong value ends in one paragraph before any work starts.
"""

import os
import re
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from hldm.console import closest
from hldm.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

EXAMPLES = """\
Examples
  python train.py -m geometry=poincare,euclidean curvature=0.1,1.0
  python train.py geometry=hybrid curvature=learnable dataset=mnist hardware=cpu seed=3
  python train.py +experiment=smoke"""

WITH_A_VALUE = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd",
                "--info", "-i", "--experimental-rerun")  # fmt: skip
"""Hydra's flags whose value stands in the next argument."""


def main(argv: list[str] | None = None) -> None:
    """Answer one command line (by default this process's).

    Raises:
        UserError: what it asks for is wrong, or a run failed.
    """
    argv = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(argv):
        print(help_text())
        return
    flags, overrides = split(argv)
    if {"-m", "--multirun"} & set(flags) and any(flag.split("=")[0] in ("--cfg", "-c") for flag in flags):
        raise UserError(
            "--cfg shows one configuration and -m asks for a grid of them. Leave one of the two away, and with --cfg "
            "give each setting one value: `python train.py geometry=poincare curvature=0.1 --cfg job`."
        )

    from hldm.study.overrides import prepared

    composed = composed_by_hydra([*flags, *prepared(overrides)])
    if composed is not None:
        run_one(overrides, *composed)


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags with their values, and the overrides."""
    flags: list[str] = []
    overrides: list[str] = []
    takes_value = False
    for argument in argv:
        is_flag = takes_value or argument.startswith("-")
        (flags if is_flag else overrides).append(argument)
        takes_value = not takes_value and argument in WITH_A_VALUE
    return flags, overrides


def composed_by_hydra(argv: list[str]) -> "tuple[DictConfig, dict[str, str | None]] | None":
    """Let Hydra do what the arguments say: print a configuration, launch a grid (both give None), or compose one run.

    Returns:
        For a single run its configuration and group → chosen option.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from hldm.study.config import CONF, register_resolvers

    single: list[tuple[DictConfig, dict[str, str | None]]] = []

    def task(config: "DictConfig") -> None:
        single.append((config, dict(HydraConfig.get().runtime.choices)))

    register_resolvers()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises its errors instead of printing them
    before, sys.argv = sys.argv, [sys.argv[0], *argv]
    try:
        hydra.main(str(CONF), "config", version_base="1.3")(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise in_our_words(error) from error
    except OSError as error:  # Hydra notes a grid in the study's folder before the launcher can look at it
        raise UserError(
            f"{error.filename} cannot be written ({error.strerror}). "
            "Name a folder that you may write, as in paths.outputs=~/outputs."
        ) from error
    finally:
        sys.argv = before
    return single[0] if single else None


def run_one(overrides: list[str], composed: "DictConfig", choices: dict[str, str | None]) -> None:
    """Check, plan and run one configuration in this process, then show its results."""
    from hldm.study.check import check, check_machine
    from hldm.study.comparison import print_comparison, terminal
    from hldm.study.config import plain
    from hldm.study.execute import prepare
    from hldm.study.plan import make_plan, print_plan

    config = _resolved(plain, composed)
    check(config, choices)
    allotment = check_machine(config)
    console = terminal()
    plan = make_plan([(tuple(overrides), config)])
    print_plan(plan, 1, str(allotment), console)
    if plan[0].state != "finished":
        with plan[0].run.lock():  # another process has it: say so now, not after torch is loaded
            directory = prepare(plan[0], allotment.threads)
        # torch reads the number of threads when it is imported, which the pipeline does
        os.environ.update(OMP_NUM_THREADS=str(allotment.threads), OMP_WAIT_POLICY="PASSIVE")
        from hldm.pipeline import run

        run(directory.path)
    print_comparison(plan, console)


def _resolved(plain: Any, composed: "DictConfig") -> dict[str, Any]:
    from omegaconf.errors import OmegaConfBaseException

    try:
        return dict(plain(composed))
    except OmegaConfBaseException as error:
        raise in_our_words(error) from error


def in_our_words(error: Exception) -> UserError:
    """Hydra's or OmegaConf's error → what was wrong and what to type."""
    from hldm.study.overrides import known_keys, needs_multirun

    text = " ".join(f"{error} {error.__cause__ or ''}".split())
    # one of the two may be the section that was to hold the key
    if keys := re.findall(r"(?:not in struct full_key: |Could not override ')([^\s']+)", text):
        key = max(keys, key=len).partition("@")[0]
        known = known_keys()
        if where := known.get(key):
            return UserError(f"{key} is a setting of {' and '.join(where)} only. Choose that, or leave {key} away.")
        guess = closest(key, known)
        hint = f" Did you mean {guess}=…?" if guess else ""
        return UserError(f"There is no setting {key}.{hint} `python train.py --cfg job` shows all that there are.")
    if found := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.+?)'", text):
        return UserError(needs_multirun(found[1].replace("curvature.value=", "curvature=")))
    return UserError(f"{text} `python train.py --help` lists groups and options, `--cfg job` all settings.")


def help_text() -> str:
    """Usage, groups with their options, examples. Hydra's own takes twice as long, as it reads every group."""
    from hldm.study.config import ADDED, description, groups

    width = min(shutil.get_terminal_size((100, 24)).columns, 120)

    def row(name: str, text: str) -> str:
        return textwrap.fill(text, width, initial_indent=f"  {name:26}", subsequent_indent=" " * 28)

    lines = ["Usage: python train.py [-m] [GROUP=OPTION …] [KEY=VALUE …]", ""]
    lines += ["  -m             a grid: every combination of values with commas between them, or range(a,b,step)"]
    lines += ["  --cfg job      print the configuration and do nothing", ""]
    lines += ["Groups and options"]
    for group, options in groups().items():
        prefix = "+" if group in ADDED else ""
        lines += [row(f"{prefix}{group}={name}", description(file)) for name, file in options.items()]
    lines += [row("curvature=0.37", "Any number ≥ 0; several with -m: curvature=0.1,1.0"), ""]
    return "\n".join([*lines, EXAMPLES])
