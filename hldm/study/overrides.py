"""`key=value` arguments, put right for Hydra or refused before it starts.

Hydra wants an option's name after a group, so `curvature=0.1` is an error there. Here a number sets
`curvature.value`, and `curvature=learnable` still chooses the option.
"""

from typing import Any

from hldm.console import closest
from hldm.errors import UserError
from hldm.study.config import ADDED, groups, settings

LEAVES_RESULT = ("hardware", "paths", "study", "tracking")
"""Sections that cannot change a result, so that run identity leaves them out and a sweep over them means nothing."""


def prepared(arguments: list[str]) -> list[str]:
    """The arguments as Hydra understands them.

    Raises:
        UserError: what is not `key=value`, an unknown option of a group, a deletion, a new key, a mix of numbers and
            options, a sweep over what cannot change a result.
    """
    return [_prepared(argument) for argument in arguments]


def _prepared(argument: str) -> str:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, OverrideType, RangeSweep
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException as error:
        raise UserError(
            f"{argument!r} cannot be read as key=value. Type for example seed=3, or geometry=poincare; "
            "a value with special characters needs quotes inside the shell's: 'study=\"a b\"'."
        ) from error
    key = override.key_or_group
    if key.partition(".")[0] == "hydra" or key.startswith("hydra/"):
        return argument  # Hydra's own settings: for those who know them
    options = groups().get(key, {})
    value = override.value()
    values: list[Any] = list(value.list) if isinstance(value, ChoiceSweep) else [value]
    values = [getattr(item, "text", item) for item in values]  # a quoted word is a word

    if override.type is OverrideType.DEL:
        hint = " tracking=none switches tracking off." if key == "tracking" else ""
        raise UserError(f"{argument} would delete a setting that a run needs. Give it another value instead.{hint}")
    if override.type is not OverrideType.CHANGE and key not in ADDED:
        known = known_keys()
        guess = key if key in known else closest(key, known)
        hint = f" Type {guess}={argument.partition('=')[2]}." if guess else ""
        raise UserError(
            f"{argument} would add a setting that nothing reads. Those that there are already are changed without a + "
            f"sign.{hint} `python train.py --cfg job` shows them all."
        )
    if override.is_sweep_override() and key.partition(".")[0] in LEAVES_RESULT:
        raise UserError(
            f"{argument} would sweep over {key}, which cannot change a result: "
            "all points of the grid would be the same run. Choose one value for the whole command."
        )
    if isinstance(value, IntervalSweep):
        raise UserError(
            f"{argument}: an interval has no list of values to run. Type range(start,stop,step), as in "
            f"`python train.py -m '{key}=range(0.1,1.0,0.3)'`, or the values themselves, {key}=0.1,0.5."
        )
    if key == "curvature":
        are_numbers = [isinstance(item, RangeSweep) or _is_number(item) for item in values]
        if all(are_numbers):
            return argument.replace("curvature=", "curvature.value=", 1)
        if any(are_numbers):
            numbers = ",".join(str(item) for item in values if _is_number(item))
            words = ",".join(str(item) for item in values if not _is_number(item))
            raise UserError(
                f"{argument} mixes numbers with options, which cannot stand in one grid. Type two commands: "
                f"one with curvature={numbers}, one with curvature={words} (`python train.py -m …` where there are "
                "several values); finished runs are not run again."
            )
    for item in values:
        if options and item not in options:
            raise UserError(_unknown_option(key, item, list(options)))
    return argument


def _unknown_option(group: str, item: Any, options: list[str]) -> str:
    guess = closest(str(item), options)
    hint = f" Did you mean {group}={guess}?" if guess else ""
    numbers = " or a number ≥ 0, as in curvature=0.37" if group == "curvature" else ""
    shown = str(item).lower() if isinstance(item, bool) else item
    return f"{group}={shown} is not an option.{hint} Options of {group}: {', '.join(options)}{numbers}."


def needs_multirun(argument: str) -> str:
    """What to say where several values stand and `-m` does not."""
    return (
        f"{argument} names several values, which is a grid of runs: type -m after train.py, as in "
        f"`python train.py -m {argument}`. If one value was meant that is a list, type it in brackets: key=[0,1]."
    )


def known_keys() -> dict[str, list[str]]:
    """Every setting → the options that have it, as `geometry=hybrid`; empty for those of conf/config.yaml."""
    from hldm.study.config import CONF

    known: dict[str, list[str]] = {key: [] for key in settings(CONF / "config.yaml")}
    for group, options in groups().items():
        known.setdefault(group, [])
        if group not in ADDED:
            for option, file in options.items():
                for key in settings(file):
                    known.setdefault(key, []).append(f"{group}={option}")
    return known


def _is_number(item: Any) -> bool:
    return isinstance(item, int | float) and not isinstance(item, bool)
