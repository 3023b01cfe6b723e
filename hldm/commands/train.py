"""`hldm train …`, and `python train.py …`: arguments → checked configurations → runs.

Hydra composes; what it cannot say well is said here. A wrong value ends in a paragraph before any work starts.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hldm.errors import Stopped, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from hldm.config.options import Options
    from hldm.config.overrides import Argument
    from hldm.run.directory import RunDirectory

WITH_A_VALUE = {
    "--cfg": ("job", "hydra", "all"),
    "-c": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "-i": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--config-dir": (),
    "-cd": (),
    "--shell-completion": (),
    "-sc": (),
}
"""Hydra's flags whose value stands in the next argument, or after =: the values that there are, none for any."""

FLAGS = (*WITH_A_VALUE, "--multirun", "-m", "--resolve", "-h", "--help")
"""Hydra's flags that mean something here."""


def main(argv: list[str]) -> int | None:
    """Answer one command line; the exit status where it is not 0.

    Raises:
        UserError: what it asks for is wrong, or a run failed.
    """
    if "--version" in argv:
        from hldm import __version__

        print(__version__)
        return None
    flags, typed = split(argv)
    overrides, words = said(typed)
    from hldm.config.options import Options

    options = Options(*config_dirs(flags), *searched(overrides))
    if {"-h", "--help"} & set(argv):
        from hldm.commands.explain import help_text
        from hldm.console import here

        print(here(help_text(options, overrides)))
        return None
    is_grid = bool({"-m", "--multirun"} & set(flags))
    shows = any(flag.split("=")[0] in ("--cfg", "-c") for flag in flags)
    if is_grid and shows:
        raise UserError(
            "--cfg shows one configuration and -m asks for a grid of them. Leave one of the two away, and with --cfg "
            "give each setting one value: `python train.py geometry=poincare curvature=0.1 --cfg job`."
        )
    if "--resolve" in flags and not shows:
        raise UserError("--resolve is for printing a configuration: `python train.py --cfg job --resolve`.")
    from hldm.config.arguments import read

    given = read(overrides, options, is_grid=is_grid)
    composed = composed_by_hydra(flags, given, options, words)
    return None if composed is None else run_one(overrides, composed, options, plan_only=words.get("plan", False))


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags with their values, and the overrides.

    Raises:
        UserError: a flag that is not one of Hydra's, or that has no meaning here.
    """
    flags: list[str] = []
    overrides: list[str] = []
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        if name not in FLAGS:
            raise UserError(_not_a_flag(name, value if equals else (rest or ["…"])[0]))
        flags.append(argument)
        if name in WITH_A_VALUE:
            allowed = WITH_A_VALUE[name]
            if not equals:
                value = rest.pop(0) if rest else ""
                flags.append(value)
            if not value or (allowed and value not in allowed):
                what = f"one of {', '.join(allowed)}" if allowed else "a value"
                raise UserError(f"{name} needs {what} after it, as in {name} {(allowed or ('<folder>',))[0]}.")
    return flags, overrides


WORDS = ("plan", "wait")
"""What a command does with its runs: say it only, or stay with those that it submits. No setting of a run."""


def said(typed: list[str]) -> tuple[list[str], dict[str, bool]]:
    """The overrides, and what the command was told to do with the runs, each true or false.

    Raises:
        UserError: a word with another value, or two of them.
    """
    words: dict[str, bool] = {}
    overrides = []
    for argument in typed:
        key, equals, value = argument.partition("=")
        if key.lstrip("+") not in WORDS or not equals:
            overrides.append(argument)
            continue
        key = key.lstrip("+")
        if value.lower() not in ("true", "false") or words.get(key, value.lower() == "true") != (
            value.lower() == "true"
        ):
            what = {"plan": "print what would be done, and do nothing", "wait": "stay until submitted jobs have ended"}
            raise UserError(f"{argument} is not understood: {key}=true is to {what[key]}, and {key}=false not to.")
        words[key] = value.lower() == "true"
    return overrides, words


def _not_a_flag(flag: str, value: str) -> str:
    if flag in ("--experimental-rerun", "--config-name", "-cn", "--config-path", "-cp", "--run", "-r"):
        return (
            f"{flag} is not supported: a repeated command goes on where the run was stopped, options of your own are "
            "found by --config-dir <folder>, and hldm evaluate run=… looks at a finished run."
        )
    from hldm.config.habits import habit
    from hldm.config.options import Options

    key, known = flag.lstrip("-").replace("-", "_"), Options().keys
    if key not in known and (sentence := habit(key)):
        return f"{flag} is not a flag: settings are typed as key=value. {sentence}"
    shown = f"{key}={value}" if key in known else "as in seed=3"
    return f"{flag} is not a flag. Settings are typed as key=value: {shown}. `python train.py --help` lists them."


def config_dirs(flags: list[str]) -> list[Path]:
    """The folders that --config-dir names.

    Raises:
        UserError: one does not exist.
    """
    pairs = zip(flags, [*flags[1:], ""], strict=False)  # no flag, no pair
    named = [(flag.partition("=")[2] if "=" in flag else after) for flag, after in pairs
             if flag.partition("=")[0] in ("--config-dir", "-cd")]  # fmt: skip
    for name in named:
        if not Path(name).is_dir():
            raise UserError(f"--config-dir {name}: there is no such folder. It must be laid out like conf/.")
    return [Path(name).absolute() for name in named]


def searched(overrides: list[str]) -> list[Path]:
    """The folders that hydra.searchpath=[…] names, as paths or as file://….

    Raises:
        UserError: one does not exist.
    """
    texts = [argument for argument in overrides if argument.startswith("hydra.searchpath=")]
    if not texts:
        return []
    from hldm.config.overrides import parsed  # late: `--help` needs none of Hydra

    values = [parsed(text).value() for text in texts]
    named = [str(item) for value in values for item in (value if isinstance(value, list) else [value])]
    folders = [Path(name.removeprefix("file://")).absolute() for name in named]
    for name, folder in zip(named, folders, strict=True):
        if not folder.is_dir():
            raise UserError(f"hydra.searchpath names {name}, and there is no such folder. It must be like conf/.")
    return folders


def composed_by_hydra(
    flags: list[str], given: "list[Argument]", options: "Options", words: Mapping[str, bool]
) -> "DictConfig | None":
    """Let Hydra print a configuration or launch a grid, which both give None, or compose one run."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from hldm.config.overrides import in_our_words, register_resolvers
    from hldm.paths import CONF

    single: list[DictConfig] = []

    def task(config: "DictConfig") -> None:
        if single or HydraConfig.get().mode is RunMode.MULTIRUN:
            raise UserError(
                "This launcher or sweeper calls one function for every point, which starts no run. Leave "
                "hydra/launcher and hydra/sweeper as they are; hardware=… says where runs work."
            )
        single.append(config)

    register_resolvers()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises its errors instead of printing them
    own = [argument.hydra for argument in given if argument.key != "hydra.searchpath"]
    own += [f"hydra.launcher.{word}={str(value).lower()}" for word, value in words.items()]
    # what a preset says of Hydra's sweeper must not replace the one that starts runs
    overrides = [*_search_path(options), *own, "hydra/sweeper=grid"]
    if not flags:
        with in_our_words(given, options):
            if (one := _composed_once(overrides)) is not None:
                return one
    before, sys.argv = sys.argv, [sys.argv[0], *flags, *overrides]
    try:
        with in_our_words(given, options):
            hydra.main(str(CONF), "config", version_base="1.3")(task)()
    finally:
        sys.argv = before
    return single[0] if single else None


def _composed_once(overrides: list[str]) -> "DictConfig | None":
    """The configuration of one run; None where it is a grid, or cannot be composed, which Hydra's own entry tells.

    That entry composes everything twice, first to see whether it is a grid: half of the time until a run is planned.
    """
    import hydra
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    from hldm.paths import CONF

    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            composed = hydra.compose("config", overrides, return_hydra_config=True)
            return None if composed.hydra.mode is RunMode.MULTIRUN else composed
    except (HydraException, OmegaConfBaseException):
        return None


def _search_path(options: "Options") -> list[str]:
    """Where Hydra finds the options that are not in conf/: those of installed extensions, and the user's."""
    from hldm.paths import CONF

    folders = [f"'file://{folder}'" for folder in options.folders if folder != CONF]
    return [f"hydra.searchpath=[{','.join(folders)}]"] if folders else []


def run_one(overrides: list[str], composed: "DictConfig", options: "Options", *, plan_only: bool) -> int | None:
    """Check, plan and run one configuration in this process, then show its results; or plan it only.

    Returns:
        The status if it stopped.
    """
    from hldm.commands.worker import work
    from hldm.config.compose import plain, typed
    from hldm.config.overrides import in_our_words
    from hldm.console import terminal
    from hldm.run import requirements, stop
    from hldm.run.output import logged
    from hldm.run.ranks import place
    from hldm.study.compare import print_comparison
    from hldm.study.counted import print_counted
    from hldm.study.execute import mend, threads_of, write_directory
    from hldm.study.grid import NOTHING_STARTED, machine, warn_of_tracker
    from hldm.study.plan import make_plan, print_plan
    from hldm.tracking import agent

    with in_our_words((), options):
        data = plain(composed)
    config = typed(data, options)
    requirements.refuse([config], options)
    plan = make_plan([(tuple(overrides), config)])
    [point] = plan
    if not place().is_first:  # srun -n2, torchrun: the first one plans, says and compares
        with stop.listening():
            return None if plan_only or point.state == "finished" else work(point.run.path)
    console = terminal()
    allotment = machine(plan, int(point.state != "finished"))
    print_plan(plan, 1, str(allotment), console)
    print_counted(plan, console)
    if plan_only:
        console.print(NOTHING_STARTED)
        return None
    mend(plan)
    given = agent.adopt()
    if given is not None and point.state == "finished":  # the sweep wants its figure all the same
        from hldm.pipeline.log import show_again

        show_again(point.run, config)
    if point.state != "finished":
        warn_of_tracker(plan, console)
        with point.run.lock():  # another process has it: say so now, not after torch is loaded
            threads = threads_of(point, allotment.threads)
            directory = write_directory(point, threads)
        # torch reads the number of threads when it is imported, which the pipeline does
        os.environ.update(allotment.environment(0, threads))
        with logged(directory.path):
            status = _work_here(directory, allotment.ranks)
        if status:
            return status
    print_comparison(plan, console)
    return None


def _work_here(directory: "RunDirectory", ranks: int) -> int:
    """Bring a run to its end, in this process or in so many ranks that it starts; the exit status of a worker.

    Raises:
        UserError: the run failed.
    """
    from hldm.commands.ranks import run_ranks
    from hldm.console import paragraphs
    from hldm.run import exits, stop
    from hldm.run.ranks import place

    if ranks > 1 and place().size == 1:
        status = run_ranks(directory, ranks)
        if status == exits.FAILED:
            raise UserError(f"{directory.path.name}: {directory.status.get('error')}")
        return status
    try:
        with stop.listening():
            from hldm.pipeline import run

            stop.check()
            run(directory.path)
    except Stopped:
        print(paragraphs(stop.GO_ON), file=sys.stderr)
        return exits.STOPPED
    return exits.FINISHED
