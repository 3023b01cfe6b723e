"""pydantic's errors in the project's words: what was wrong, what is allowed, what to type."""

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen, MultipleOf
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from hldm.config.base import Refusal, Section, Words
from hldm.config.geometry import Curvature
from hldm.config.habits import habit
from hldm.config.options import PRESETS, Options
from hldm.console import closest, shown


def sentences(error: ValidationError, root: type[Section], data: Any, options: Options) -> list[str]:
    """A sentence for each problem, in the order of the settings.

    Args:
        error: what validation of `data` raised.
        root: the section that was validated.
        data: the mapping.
        options: what there is to choose.
    """
    problems = error.errors()
    wrong = {problem["loc"] for problem in problems}
    # a list is too short only because one of its items is wrong
    about = (p for p in problems if not any(loc[: len(p["loc"])] == p["loc"] != loc for loc in wrong))
    found = (_sentence(problem, root, data, options) for problem in about)
    return list(dict.fromkeys(found))  # each element of a list may have the same complaint


def must_be(field: FieldInfo) -> str:
    """What the value of a setting must be, such as "a whole number ≥ 1, or null for none"."""
    own = next((str(note) for note in field.metadata if isinstance(note, Words)), None)
    return own or _words(field.annotation, field.metadata, field.description or "")


def example(field: FieldInfo) -> str | None:
    """A value that is allowed, as it is typed."""
    if field.examples:
        return str(field.examples[0]) if isinstance(field.examples[0], str) else shown(field.examples[0])
    for part, _ in _alternatives(field.annotation, field.metadata):
        if get_origin(part) is Literal:
            return str(get_args(part)[0])
        if part is bool:
            return "true"
    return None


def section_of_field(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds; None where it holds a value."""
    return next(iter(_sections(field)), None)


def text_settings(root: type[Section]) -> frozenset[str]:
    """Settings whose value is text of the user's own: words, names, files and folders."""
    return frozenset(_settings(root, lambda part: part is str))


def mapping_settings(root: type[Section]) -> frozenset[str]:
    """Settings whose value is a mapping with names of the user's own."""
    return frozenset(_settings(root, lambda part: get_origin(part) is dict))


def _settings(root: type[Section], holds: Callable[[Any], bool], prefix: str = "") -> Iterator[str]:
    for name, field in root.model_fields.items():
        if get_origin(field.annotation) is tuple:
            continue
        inner = section_of_field(field)
        if inner is not None:
            for section in (inner, *inner.members().values()):
                yield from _settings(section, holds, f"{prefix}{name}.")
        elif any(holds(part) for part, _ in _alternatives(field.annotation, field.metadata)):
            yield f"{prefix}{name}"


def _words(annotation: Any, metadata: Sequence[Any], description: str) -> str:
    parts = list(_alternatives(annotation, metadata))
    words = [_kind(part, notes) for part, notes in parts if part is not NoneType]
    if len(words) < len(parts):
        purpose = next((f" for {word}" for word in ("never", "none") if f"null for {word}" in description), "")
        words[-1] += f", or null{purpose}"
    return " or ".join(words)


def _alternatives(annotation: Any, metadata: Sequence[Any]) -> Iterator[tuple[Any, Sequence[Any]]]:
    """The types of a union with what is said of each, taken out of `Annotated`."""
    if get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        yield from _alternatives(inner, [*notes, *metadata])
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _alternatives(part, metadata)
    else:
        yield annotation, metadata


def _kind(annotation: Any, notes: Sequence[Any]) -> str:
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(map(str, get_args(annotation)))}"
    if get_origin(annotation) is tuple:
        item, item_notes = next(_alternatives(get_args(annotation)[0], []))
        many = get_args(annotation)[1:] == (...,)
        length = "" if many else f"{len(get_args(annotation))} "
        least = ", not empty," if any(isinstance(note, MinLen) for note in notes) else ""
        return f"a list{least} of {length}{_kind(item, item_notes).removeprefix('a ').replace('number', 'numbers')}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "a section"
    kinds = {bool: "true or false", int: "a whole number", float: "a number"}
    return kinds.get(annotation, "text") + _range(notes) if annotation in kinds else "text"


def _range(notes: Sequence[Any]) -> str:
    low = next((note for note in notes if isinstance(note, Ge | Gt)), None)
    high = next((note for note in notes if isinstance(note, Le | Lt)), None)
    if isinstance(low, Ge) and isinstance(high, Le):
        return f" from {low.ge} to {high.le}"
    bounds = [f"≥ {low.ge}" if isinstance(low, Ge) else f"> {low.gt}"] if low else []
    bounds += [f"≤ {high.le}" if isinstance(high, Le) else f"< {high.lt}"] if high else []
    bounds += [f"a multiple of {note.multiple_of}" for note in notes if isinstance(note, MultipleOf)]
    return f" {' and '.join(bounds)}" if bounds else ""


def _sentence(problem: Mapping[str, Any], root: type[Section], data: Any, options: Options) -> str:
    section, field, path, at = _place(problem["loc"], root, data)
    kind, value, key = problem["type"], problem["input"], ".".join(map(str, path))
    if kind == "extra_forbidden":
        return _unknown(".".join(map(str, problem["loc"])), value, section, options)
    if kind == "target":
        return f"{key}._target_={problem['ctx']['found']} is not one of {problem['ctx']['known']}."
    if kind == "name":
        return f"{key}={shown(value)} is not one of {problem['ctx']['known']}."
    if kind == "missing":
        return f"{key} is missing: it must be {must_be(field)}." if field else f"{key} is missing."
    if kind in ("section", "model_type", "model_attributes_type", "dict_type") or field is None:
        return _not_a_section(key, value)
    if refusal := _refusal(field, is_item=len(problem["loc"]) > len(path)):
        if issubclass(section, Curvature):
            key = key.removesuffix(".value")
        multiple = problem.get("ctx", {}).get("multiple_of")
        nearest = multiple * max(1, round(value / multiple)) if multiple else None
        if nearest is not None or "{nearest}" not in refusal:
            return refusal.format(key=key, value=shown(value), nearest=nearest)
    reason = str(problem.get("ctx", {}).get("error", ""))
    if isinstance(at, int | float) and any(part is str for part, _ in _alternatives(field.annotation, field.metadata)):
        reason = "a number; in a file put quotes around it"
    because = f" ({reason})" if reason else ""
    usual = example(field)
    such_as = f", for example {key}={usual}" if usual is not None else ""
    short = textwrap.shorten(shown(at), 200, placeholder=" …")
    return f"{key}={short} is not allowed{because}: it must be {must_be(field)}{such_as}."


def _not_a_section(key: str, value: Any) -> str:
    if key.rpartition(".")[2] == "curvature":  # a file of one's own; what is typed is translated
        return (
            f"{key}={shown(value)} replaces a whole section. In a file write {key}: {{value: 0.1}}, and for several "
            f"values {key}: 0.1,1 under hydra.sweeper.params."
        )
    if guess := habit(key.rpartition(".")[2]):
        return guess.replace(f"no setting {key.rpartition('.')[2]}.", f"no value {shown(value)} of {key}, a section.")
    return f"{key}={shown(value)} is not allowed: it is a section. `python train.py --cfg job` shows it."


TO_CHOOSE = {"denoiser": "latent=map or latent=map_global"}
"""Group → what to type for its option that has a setting, where that is not the option itself."""


def _unknown(key: str, value: Any, section: type[Section], options: Options) -> str:
    """A preset, or a file of your own, names a setting that the chosen option does not have."""
    group, _, _ = key.partition(".")
    if group in PRESETS:
        return (
            f"The file of {group}=… says nothing about a run: begin it with the line `# @package _global_`, and write "
            "a setting such as seed: 3 below."
        )
    if where := options.keys.get(key):
        return (
            f"{key}={shown(value)} is a setting of {' and '.join(where)} only. Type {TO_CHOOSE.get(group, where[0])}, "
            "or leave out what set it, such as ablation=…."
        )
    if key not in options.keys and (sentence := habit(key)):
        return sentence
    parent = key.rpartition(".")[0]
    guess = closest(key, [f"{parent}.{name}".lstrip(".") for name in section.model_fields])
    hint = f" Did you mean {guess}=…?" if guess else ""
    return f"There is no setting {key}.{hint} `python train.py --cfg job` shows all that there are."


def _refusal(field: FieldInfo, *, is_item: bool) -> str | None:
    notes = list(field.metadata)
    if is_item and get_origin(field.annotation) is tuple:
        notes = list(next(_alternatives(get_args(field.annotation)[0], []))[1])
    return next((str(note) for note in notes if isinstance(note, Refusal)), None)


def _place(
    loc: Sequence[str | int], root: type[Section], data: Any
) -> tuple[type[Section], FieldInfo | None, list[str | int], Any]:
    """(section, its field, path to the field, value of the field) that an error is about."""
    section, field, path, value = root, None, [], data
    for part in loc:
        if field is not None and not _is_section(value):
            break  # an element of a list, or a member of a union
        if isinstance(value, Mapping) and isinstance(part, str):
            section = _chosen(section, field, value)
            field = section.model_fields.get(part)
            value = value.get(part)
        elif isinstance(value, Sequence) and isinstance(part, int):
            section, value = _item(field), value[part]
            field = None
        else:
            break
        path.append(part)
    return section, field, path, value


def _is_section(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, Sequence) and any(isinstance(x, Mapping) for x in value))


def _item(field: FieldInfo | None) -> type[Section]:
    return _sections(field)[0]


def _sections(field: FieldInfo | None) -> list[type[Section]]:
    """The section that a field holds, or that its list holds."""
    found: list[type[Section]] = []
    for part, _ in _alternatives(field.annotation, []) if field else ():
        inner = get_args(part)[0] if get_origin(part) is tuple else part
        if isinstance(inner, type) and issubclass(inner, Section):
            found.append(inner)
    return found


def _chosen(section: type[Section], field: FieldInfo | None, value: Mapping[str, Any]) -> type[Section]:
    within = next(iter(_sections(field)), section)
    return within.members().get(str(value.get("_target_")), within)
