"""What a user types after `train`: put right for Hydra, or refused with what to type instead.

A number for a curvature is translated here and nowhere else: Hydra wants an option's name after a group, so
`curvature=0.1` sets `curvature.value`, while `curvature=learnable` chooses the option. A denoiser's own curvature is
said in the same ways.
"""

import fnmatch
import math
import re
from collections.abc import Collection, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, OverrideType, RangeSweep

from hldm.config.habits import habit, meant
from hldm.config.options import LEAVES_RESULT, PRESETS, Options
from hldm.config.overrides import Argument, parsed, refuse_hydras_own
from hldm.console import closest, shown
from hldm.errors import UserError

CURVATURES = {"curvature": "curvature", "denoiser.curvature": "curvature@denoiser.curvature"}
"""Setting → the group, and its place in the configuration, that Hydra chooses it from."""

SHORT = {"retry": "hardware.retry", "fail_fast": "hardware.fail_fast"}
"""What may be typed without its section → the setting."""

MOST_RUNS = 10_000
"""Of one grid: all of them are checked, named and planned before the first one starts."""


def read(arguments: list[str], options: Options, *, is_grid: bool = False) -> list[Argument]:
    """The arguments as Hydra understands them.

    Args:
        options: what there is to choose.
        is_grid: whether several values are allowed everywhere (`-m`).

    Raises:
        UserError: what is not `key=value`, an unknown option of a group, a deletion, a new key, a mix of numbers and
            options, a sweep over what cannot change a result.
    """
    text, mappings = _settings_of_users() if arguments else (frozenset(), frozenset())
    # what is not chosen is the default, which Hydra has no words for
    unset = [f"{group}=null" for group in (*PRESETS, "search")]
    found: list[Argument] = []
    wrong: list[str] = []
    for argument in arguments:
        try:
            if argument.lstrip("+") not in unset:
                found.append(_entry(argument, mappings) or _read(argument, options, text))
        except UserError as error:
            wrong += error.problems
    if wrong:
        raise UserError.of(wrong)
    found = _with_entries_of_site(found)
    _refuse_repeated(found)
    if not any(argument.key in ("search", *PRESETS) for argument in found):  # a preset may choose a search
        for one in found:
            refuse_interval(one)
    if not is_grid:
        return found
    # a setting that only some of the swept options have is looked at with each point, not with the defaults
    swept = {argument.key for argument in found if parsed(argument.hydra).is_sweep_override()}
    return [_deferred(argument, swept) for argument in found]


def _settings_of_users() -> tuple[frozenset[str], frozenset[str]]:
    """The settings whose value is text, and those whose value is a mapping with names of the user's own."""
    from hldm.config.explain import mapping_settings, text_settings  # late: `--cfg job` and the like need no schema
    from hldm.config.schema import RunConfig

    return text_settings(RunConfig), mapping_settings(RunConfig)


def _read(argument: str, options: Options, words: frozenset[str]) -> Argument:
    typed, key, text = argument, *_split(argument)
    if key in SHORT:
        key = SHORT[key]
        argument = f"{key}={text}"
    plain = key.lstrip("+~").partition("@")[0]
    # a preset may be written with a + sign, as if it were not among the defaults; a path begins with ~ at times
    if key.startswith("+") and key.lstrip("+") in PRESETS:
        argument, key = argument.lstrip("+"), key.lstrip("+")
    if key in words:
        argument = f"{key}={_quoted(text)}"
    override = parsed(argument)
    if re.match(r"hydra[./]", override.key_or_group):
        refuse_hydras_own(typed, override)
        return Argument(typed, argument, override.key_or_group)
    _refuse_changes_of_structure(typed, override, options)
    if override.is_sweep_override() and plain.partition(".")[0] in LEAVES_RESULT:
        raise UserError(
            f"{typed} would sweep over {plain}, which cannot change a result: all points of the grid would be the same "
            "run. Choose one value for the whole command."
        )
    group = options.of_runs.get(plain, {})
    values = _values(typed, override, group)
    if plain == "sweep" and len(values) > 1:
        raise UserError(
            f"{typed} names several grids, which cannot stand in one. Type a command for each, `python train.py "
            f"sweep={values[0]}` first; what they share is not run twice."
        )
    if plain in CURVATURES:
        return _curvature(typed, plain, override, values, options)
    for item in values if group else []:
        if item not in group:
            raise UserError(_unknown_option(plain, item, list(group)))
    if isinstance(override.value(), Glob):
        argument = f"{plain}={','.join(values)}"
    return Argument(typed, argument, plain)


def _entry(argument: str, mappings: Collection[str]) -> Argument | None:
    """One entry of a setting that is a mapping, as `+hardware.slurm.additional_parameters.hold=true`, else None.

    The plus sign is Hydra's for a name that is new, and may be left out.
    """
    key, text = _split(argument)
    key = key.lstrip("+")
    mapping = next((mapping for mapping in mappings if key.startswith(f"{mapping}.")), None)
    if mapping is None:
        return None
    if "." in (name := key.removeprefix(f"{mapping}.")):
        raise UserError(
            f"{argument}: {mapping} has no entry with a dot in its name. Type {mapping}.{name.partition('.')[0]}=…."
        )
    override = parsed(f"++{key}={text}")
    if override.is_sweep_override():
        raise UserError(f"{argument} names several values, and {key} takes one.")
    return Argument(argument, f"++{key}={text}", key)


OF_SITE = "hardware.slurm."
"""Settings that are the site's where nothing is typed."""


def _with_entries_of_site(found: list[Argument]) -> list[Argument]:
    """Entries of the site's mappings in one argument each, which keeps those that stand in the site's profile.

    Hydra would put a mapping with the new entry alone in the place of the interpolation.
    """
    typed = {argument.key for argument in found}
    entries: dict[str, dict[str, Any]] = {}
    rest = []
    for argument in found:
        mapping, _, name = argument.key.rpartition(".")
        if argument.hydra.startswith(f"++{OF_SITE}") and mapping not in typed:
            entries.setdefault(mapping, {})[name] = argument
        else:
            rest.append(argument)
    for mapping, named in entries.items():
        values = {name: parsed(argument.hydra).value() for name, argument in named.items()}
        # % for what is special in a text: quotes in quotes in quotes are more than Hydra and OmegaConf can read
        items = ",".join(
            f"{name}:" + (f'"{quote(value)}"' if isinstance(value, str) else shown(value))
            for name, value in values.items()
        )
        whole = f"${{hldm.site:{mapping.removeprefix(OF_SITE)},{{}},{{{items}}}}}"
        words = " ".join(argument.typed for argument in named.values())
        rest.append(Argument(words, f"{mapping}='{whole}'", mapping))
    return rest


def _split(argument: str) -> tuple[str, str]:
    key, _, text = argument.partition("=")
    return key, text


def _quoted(text: str) -> str:
    """The text as Hydra reads a word, unless it is empty, null, quoted, an interpolation, a list or several values.

    What exists is meant as it is written, with all special characters in its name.
    """
    is_special = text in ("", "null", "???") or text[0] in "'\"[{" or "," in text or "${" in text
    if (is_special or re.match(r"\w+\(.*\)$", text)) and not _exists(text):
        return text
    return "'" + re.sub(r"(\\*)'", r"\1\1\\'", re.sub(r"(\\+)$", r"\1\1", text)) + "'"


def _exists(text: str) -> bool:
    try:
        return bool(text) and Path(text).exists()
    except (OSError, ValueError):
        return False


def _refuse_repeated(found: list[Argument]) -> None:
    """The last value of a setting that is typed twice counts; two grids of it, or two presets, cannot be meant so."""
    for argument in found:
        same = [other for other in found if other.key == argument.key]
        is_grid = any(parsed(other.hydra).is_sweep_override() for other in same)
        if len(same) > 1 and (is_grid or argument.key in PRESETS):
            typed = [other.typed for other in same]
            raise UserError(
                f"{' and '.join(typed)} set the same thing twice. Keep one of them"
                + ("." if argument.key in PRESETS else f"; several values stand in one: {argument.key}=a,b.")
            )


def _refuse_changes_of_structure(typed: str, override: Override, options: Options) -> None:
    key = override.key_or_group
    if override.type is OverrideType.DEL:
        hint = " tracking=none switches tracking off." if key == "tracking" else ""
        raise UserError(f"{typed} would delete a setting that a run needs. Give it another value instead.{hint}")
    if override.type is not OverrideType.CHANGE:
        known = options.keys
        if key not in known and (sentence := habit(key)):
            raise UserError(sentence)
        sections = {name.rpartition(".")[0] for name in known}
        guess = key if key in known else closest(key, known.keys() - sections - options.groups.keys())
        if guess and not closest(key.rpartition(".")[2], [guess.rpartition(".")[2]]):
            guess = None  # what is alike is the section
        hint = f" Type {guess}={typed.partition('=')[2]}." if guess else ""
        raise UserError(
            f"{typed} would add a setting that nothing reads. Those that there are already are changed without a + "
            f"sign.{hint} `python train.py --cfg job` shows them all."
        )


def _values(typed: str, override: Override, group: dict[str, Path]) -> list[Any]:
    """What stands after the equals sign, one by one; a range stays one."""
    value = override._value  # Hydra's own reading: quoted words keep their quotes apart from their text
    key = override.key_or_group
    if isinstance(value, Glob):
        found = [
            option
            for option in group
            if any(fnmatch.fnmatch(option, pattern) for pattern in value.include)
            and not any(fnmatch.fnmatch(option, pattern) for pattern in value.exclude)
        ]
        if not found:
            choices = f" Options of {key}: {', '.join(group)}." if group else f" {key} has no options to choose from."
            raise UserError(f"{typed} matches nothing.{choices}")
        return found
    if isinstance(value, RangeSweep) and not 0 < (length := _length(value)) <= MOST_RUNS:
        if 0 < length < math.inf:
            raise UserError(
                f"{typed} has {length} values, and a grid has {MOST_RUNS} runs at most. Type a smaller range, or a "
                f"larger step: range(start,stop,step), as in `python train.py -m '{key}=range(0,3)'`."
            )
        raise UserError(
            f"{typed} has {'no end' if length else 'no values in it'}: it is range(start,stop,step), and counts from "
            f"start up to stop, as in `python train.py -m '{key}=range(0,3)'`."
        )
    if group and isinstance(value, list):
        several = ",".join(str(getattr(item, "text", item)) for item in value)
        grid = "" if key == "sweep" else f" For a grid type `python train.py -m {key}={several}`."
        raise UserError(f"{typed} is a list, and {key} takes one option.{grid}")
    if group and isinstance(value, dict):
        inner = " ".join(f"{key}.{getattr(name, 'text', name)}={item}" for name, item in value.items())
        raise UserError(f"{typed} is a mapping, and {key} takes an option. Type {inner}.")
    values = list(value.list) if isinstance(value, ChoiceSweep) else [value]
    return [getattr(item, "text", item) for item in values]  # a quoted word is a word


def _length(sweep: RangeSweep) -> float:
    """How many values a range has, without making them: in Hydra's own arithmetic; infinite where an end is."""
    start, stop, step = (Decimal(number or 0) for number in (sweep.start, sweep.stop, sweep.step))
    if not all(number.is_finite() for number in (start, stop, step)):
        return math.inf
    return max(0, math.ceil((stop - start) / step)) if step else 0


def refuse_too_many(axes: Sequence[Sequence[str]]) -> None:
    """Raise a UserError where all combinations of these overrides are more runs than a grid has."""
    if (runs := math.prod(map(len, axes))) > MOST_RUNS:
        several = {name.partition("=")[0]: len(axis) for axis in axes if len(axis) > 1 for name in as_typed(axis[:1])}
        product = " × ".join(f"{values} of {key}" for key, values in several.items())
        raise UserError(
            f"These values are {product}, which would be {runs} runs, and a grid has {MOST_RUNS} at most. Type fewer "
            "values, or several commands; finished runs are not run again."
        )


def refuse_interval(argument: Argument) -> None:
    """Raise a UserError where an interval is given, which only a search knows to take values from."""
    key = argument.key.removesuffix(".value") if argument.key.removesuffix(".value") in CURVATURES else argument.key
    if isinstance(parsed(argument.hydra).value(), IntervalSweep):
        steps = "range(0.1,1.0,0.3)" if key in CURVATURES else "range(0,3)"
        raise UserError(
            f"{argument.typed}: an interval has no list of values to run. Type range(start,stop,step), as in "
            f"`python train.py -m '{key}={steps}'`, or the values themselves, {key}=a,b. A search takes values from "
            "it: add search=tpe."
        )


def _curvature(typed: str, key: str, override: Override, values: list[Any], options: Options) -> Argument:
    group = options.of_runs["curvature"]
    are_numbers = [
        isinstance(item, RangeSweep | IntervalSweep) or _is_number(item) or "${" in str(item) for item in values
    ]
    text = _split(typed)[1]
    if all(are_numbers):
        return Argument(typed, f"{key}.value={text}", f"{key}.value")
    if any(are_numbers):
        numbers = ",".join(str(item) for item in values if _is_number(item))
        words = ",".join(str(item) for item in values if not _is_number(item))
        raise UserError(
            f"{typed} mixes numbers with options, which cannot stand in one grid. Type two commands: one with "
            f"{key}={numbers}, one with {key}={words} (`python train.py -m …` where there are several values); "
            "finished runs are not run again."
        )
    for item in values:
        if item not in group:
            raise UserError(_unknown_option(key, item, list(group)))
    several = ",".join(map(str, values))
    is_choice = isinstance(swept := override.value(), ChoiceSweep) and not swept.simple_form
    return Argument(typed, f"{CURVATURES[key]}={f'choice({several})' if is_choice else several}", key)


def as_typed(overrides: Sequence[str], common: Collection[str] = ()) -> tuple[str, ...]:
    """Overrides of one point as a user types them, but for those that all points have in common.

    Hydra's names of curvatures are those of this module, and nobody else knows them.
    """
    places = {place: key for key, place in CURVATURES.items()}
    chosen = {text.partition("=")[0] for text in overrides}
    names: dict[str, None] = {}
    for text in overrides:
        name, _, value = text.partition("=")
        key = places.get(name, name)
        owner = key.removesuffix(".value")
        # learnable from a value: both are said
        if owner in CURVATURES and not {owner, CURVATURES[owner]} & chosen:
            key = owner
        if text not in common:
            names[f"{key}={value}"] = None
    return tuple(names)


def _deferred(argument: Argument, swept: set[str]) -> Argument:
    """A plain value in a section whose option is swept, as a grid of one value: Hydra then sets it point by point."""
    section = argument.key.partition(".")[0]
    over = {"latent": ("autoencoder", "denoiser")}
    groups = {name for key in swept for name in (key, *over.get(key, ()))}
    is_preset_swept = bool(swept & {*PRESETS})
    if "." not in argument.key or not (section in groups or is_preset_swept) or section in LEAVES_RESULT:
        return argument
    if parsed(argument.hydra).is_sweep_override():
        return argument
    key, _, value = argument.hydra.partition("=")
    return Argument(argument.typed, f"{key}=choice({value})", argument.key)


def _unknown_option(group: str, item: Any, options: list[str]) -> str:
    guess = meant(group, shown(item), options)
    hint = f" Did you mean {group}={guess}?" if guess else ""
    numbers = f" or a number ≥ 0, as in {group}=0.37" if group in CURVATURES else ""
    return f"{group}={shown(item)} is not an option.{hint} Options of {group}: {', '.join(options)}{numbers}."


def _is_number(item: Any) -> bool:
    """Numbers, and those in quotes: what an environment variable holds is text."""
    try:
        float(item)
    except (TypeError, ValueError):
        return False
    return not isinstance(item, bool)
