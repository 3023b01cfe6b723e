"""The cells of a comparison: runs that differ in their seed alone, and the cell that each is compared with."""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from hldm.config.options import LEAVES_RESULT
from hldm.config.schema import RunConfig
from hldm.run.directory import Snapshot, is_number
from hldm.study.plan import Point


@dataclass(frozen=True)
class Finished:
    """What a comparison knows of a finished run.

    Attributes:
        metrics: name → number.
        provenance: where they come from.
        per_sampling_seed: sampling seed → name → number.
        per_image: name → its value for every test image, in their order.
        curves: name of a setting → its curve, as results.json has it.
        seconds: stage → how long it took.
    """

    metrics: Mapping[str, float]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    per_sampling_seed: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    per_image: Mapping[str, Sequence[float]] = field(default_factory=dict)
    curves: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, results: Mapping[str, Any], seconds: object = None) -> Self:
        """From results.json, or a record with the same entries; what is not as it should be is left out."""
        return cls(
            _numbers(results.get("metrics")),
            _mapping(results.get("provenance")),
            {seed: _numbers(of_seed) for seed, of_seed in _mapping(results.get("per_sampling_seed")).items()},
            {name: _array(values) for name, values in _mapping(results.get("per_image")).items()},
            {name: curve for name, curve in _mapping(results.get("curves")).items() if _is_curve(curve)},
            _numbers(seconds),
        )

    @classmethod
    def of_snapshot(cls, run: Snapshot) -> Self | None:
        """From the files of a run; None where it has not finished."""
        return cls.of(run.results or {}, run.status.get("seconds")) if run.state == "finished" else None


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _numbers(value: object) -> dict[str, float]:
    return {name: number for name, number in _mapping(value).items() if is_number(number)}


def _is_curve(curve: object) -> bool:
    about = dict(_mapping(curve))
    points = about.pop("points", None)
    if not isinstance(points, list):
        return False
    values = [*about.values(), *(_mapping(point).get("value") for point in points)]
    return all(isinstance(value, str) or is_number(value) for value in values)


def _array(values: object) -> Sequence[float]:
    """Eight bytes a number where a list takes thirty: a comparison holds those of every run."""
    return array("d", values if isinstance(values, list) and all(map(is_number, values)) else [])


@dataclass(frozen=True, eq=False)  # so that it can be a key
class Cell:
    """Runs that differ in their seed alone.

    Attributes:
        settings: setting → value, of what the runs share and other cells may not.
        config: the configuration of the first of them.
        runs: seed → finished run.
        unfinished: seed → state, of the other runs.
        run_names: seed → name of its run directory.
        doubles: names of further runs with one of these seeds, such as copies, which do not count.
    """

    settings: Mapping[str, str]
    config: RunConfig
    runs: dict[int, Finished] = field(default_factory=dict)
    unfinished: dict[int, str] = field(default_factory=dict)
    run_names: dict[int, str] = field(default_factory=dict)
    doubles: list[str] = field(default_factory=list)

    def figures(self, name: str, scale: float = 1.0) -> dict[int, float]:
        """Seed → figure of that name, of the runs that have it."""
        return {seed: scale * run.metrics[name] for seed, run in self.runs.items() if name in run.metrics}


def cells(plan: Iterable[Point], known: Callable[[Point], Finished | None]) -> list[Cell]:
    """The cells of a grid in the order of its points; a point that is an earlier point's run has no cell of its own.

    Args:
        plan: the points of the grid.
        known: what is known of a point's run, None where it has not finished.
    """
    found: dict[tuple[str, ...], Cell] = {}
    for point in plan:
        if point.original is not None:
            continue
        shared = tuple(part for part in point.overrides if not part.startswith("seed="))
        settings = dict(part.split("=", 1) for part in shared if part.split(".")[0].split("=")[0] not in LEAVES_RESULT)
        cell = found.setdefault(tuple(sorted(shared)), Cell(settings, point.config))
        _add(cell, point.config.seed, known(point), point.state, point.run.path.name)
    return list(found.values())


def own_settings(configs: Sequence[RunConfig]) -> list[dict[str, str]]:
    """For each of these the settings that others do not share, setting → value; not the seed."""
    settings = [settings_of(config) for config in configs]
    keys = dict.fromkeys(key for of_run in settings for key in of_run)
    differing = [key for key in keys if len({of_run.get(key) for of_run in settings}) > 1]
    # a data set that is drawn anew for every seed, as sweep=pvae_tree has it, is what the seed decides
    if all(getattr(config.dataset, "seed", None) == config.seed for config in configs):
        differing = [key for key in differing if key != "dataset.seed"]
    return [{key: of_run[key] for key in differing if key in of_run} for of_run in settings]


def telling_settings(own: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Of these settings as few as tell runs apart, by short names, as `conditioning` → TextConditioning.

    A setting that says no more than those before it, as a sampler's beside its process, is left out; those of geometry
    and curvature stay, because baselines are found by the others.
    """
    keys = list(dict.fromkeys(key for of_run in own for key in of_run))
    kept = _telling([key for key in keys if not is_of_geometry(key)], own, [()] * len(own))
    kept = [key for key in keys if is_of_geometry(key) or key in kept]
    return [dict(_short(key, of_run[key]) for key in kept if key in of_run) for of_run in own]


def _short(key: str, value: str) -> tuple[str, str]:
    """A class by its own name, under the name of its section."""
    is_class = key.endswith("._target_") and not is_of_geometry(key)
    return (key.removesuffix("._target_"), value.rpartition(".")[2]) if is_class else (key, value)


def _add(cell: Cell, seed: int, run: Finished | None, state: str, name: str) -> None:
    """Put a run into its cell; of those with one seed, which settings do not tell apart, the first finished counts."""
    if seed in cell.run_names:
        if run is None or seed in cell.runs:
            cell.doubles.append(name)
            return
        cell.doubles.append(cell.run_names[seed])
    cell.run_names[seed] = name
    if run is not None:
        cell.runs[seed] = run
        cell.unfinished.pop(seed, None)
    else:
        cell.unfinished[seed] = state


def settings_of(config: RunConfig) -> dict[str, str]:
    """Setting → value as text, of all that can change a result; not the seed."""
    return dict(_settings(config, config.dump()))


def _settings(config: RunConfig, content: Mapping[str, Any], within: str = "") -> Iterable[tuple[str, str]]:
    for name, value in content.items():
        key = f"{within}{name}"
        if key in LEAVES_RESULT or key == "seed" or (key == "curvature" and config.is_flat):
            continue
        if isinstance(value, Mapping):
            yield from _settings(config, value, f"{key}.")
        else:
            yield key, str(value)


def baselines(found: Sequence[Cell]) -> list[Cell | None]:
    """For each cell the one that it is compared with; None for a baseline. The order of cells decides nothing.

    That is the cell with flat latents and otherwise equal settings, at the same curvature where something reads it.
    Cells that have none, such as those of an ablation, are compared with one cell: of the flat ones, or of all where
    none is, the one that is nearest to the defaults.
    """
    others = {cell: _others(cell.config) for cell in found}
    flat: dict[frozenset[tuple[str, str]], list[Cell]] = {}
    for cell in found:
        if cell.config.has_flat_latents:
            flat.setdefault(others[cell], []).append(cell)
    matched: list[Cell | None] = []
    for cell in found:
        candidates = [] if cell.config.has_flat_latents else flat.get(others[cell], [])
        matched.append(min(candidates, key=lambda other: _apart(other, cell), default=None))
    serving = {id(cell) for cell in matched if cell}
    nearest = min(found, key=_from_defaults, default=None)
    return [
        base or (None if cell is nearest or id(cell) in serving else nearest)
        for cell, base in zip(found, matched, strict=True)
    ]


def _others(config: RunConfig) -> frozenset[tuple[str, str]]:
    """The settings beside geometry, curvature and seed."""
    seeds = ("dataset.seed",) if getattr(config.dataset, "seed", None) == config.seed else ()
    return frozenset(
        item for item in settings_of(config).items() if not is_of_geometry(item[0]) and item[0] not in seeds
    )


def _apart(flat: Cell, cell: Cell) -> tuple[Any, ...]:
    """Less for a flat cell that has more in common with a cell of otherwise equal settings."""
    here, there = flat.config, cell.config
    return (
        here.curvature != there.curvature,
        here.geometry.name != there.geometry.name,
        here.curvature.value,
        here.geometry.name,
    )


def _from_defaults(cell: Cell) -> tuple[Any, ...]:
    """Less for flat latents, then for fewer settings that are not the schema's defaults; one order for all cells."""
    config = cell.config
    delta = {name: part for name, part in config.delta().items() if name not in (*LEAVES_RESULT, "seed")}
    count = sum(1 for key in _leaves(delta) if not is_of_geometry(key))
    return not config.has_flat_latents, count, config.curvature.value, sorted(settings_of(config).items())


def _leaves(content: Mapping[str, Any], within: str = "") -> Iterable[str]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{within}{name}.")
        else:
            yield f"{within}{name}"


def is_of_geometry(key: str) -> bool:
    """Whether a setting belongs to the geometry of the latents or its curvature."""
    return key.split(".")[0] in ("geometry", "curvature")


def cell_names(found: Sequence[Cell]) -> list[str]:
    """What each cell is called: its geometry with c where these vary, and the other settings that do.

    Where one setting alone varies and its values are names, as those of ablation=, they are the cells' names. A setting
    that says no more than those before it, as a sampler's beside its process, is in no name.
    """
    if not found:
        return []
    varying = varying_settings(found)
    settings = [cell.settings for cell in found]
    others = _telling([key for key in varying if not is_of_geometry(key)], settings, [()] * len(found))
    has_geometry = any(map(is_of_geometry, varying)) or not others
    values = [cell.settings.get(key, "") for key in others for cell in found]
    if len(others) == 1 and not has_geometry and all(v.isidentifier() and v.lower() not in _NO_NAMES for v in values):
        return values
    geometries = [_geometry(cell.config) if has_geometry else "" for cell in found]
    known = [(name, *(cell.settings.get(key) for key in others)) for name, cell in zip(geometries, found, strict=True)]
    others += _telling([key for key in varying if is_of_geometry(key)], settings, known)
    short = short_names(others)
    names = []
    for geometry, cell in zip(geometries, found, strict=True):
        parts = [geometry] if geometry else []
        parts += [f"{short[key]}={as_typed(cell.settings[key])}" for key in others if key in cell.settings]
        names.append(" ".join(parts))
    return names


def _telling(
    keys: Sequence[str], settings: Sequence[Mapping[str, str]], known: Sequence[tuple[str | None, ...]]
) -> list[str]:
    """The keys that tell these settings apart where those before them, and what is known of each, do not."""
    telling = []
    for key in keys:
        more = [(*before, own.get(key)) for before, own in zip(known, settings, strict=True)]
        if len(set(more)) > len(set(known)):
            telling.append(key)
            known = more
    return telling


_NO_NAMES = ("true", "false", "none", "null")


def as_typed(value: str) -> str:
    """A setting's value as it is typed: true, not True."""
    return {"True": "true", "False": "false", "None": "null"}.get(value, value)


def varying_settings(found: Sequence[Cell]) -> list[str]:
    """The settings in which cells differ."""
    keys = dict.fromkeys(key for cell in found for key in cell.settings)
    return [key for key in keys if len({cell.settings.get(key) for cell in found}) > 1]


def _geometry(config: RunConfig) -> str:
    c = config.curvature_words
    return config.geometry.name + ("" if c == "flat" else f" c={c}" if c[0].isdigit() else f" c {c}")


def short_names(keys: Sequence[str], taken: Sequence[str] = ("geometry", "curvature", "seed")) -> dict[str, str]:
    """Setting → the shortest end of its name that no other of these settings, and no column, has."""

    def ends(key: str) -> list[str]:
        parts = key.split(".")
        return [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]

    known = [*taken, *(end for key in keys for end in ends(key))]
    return {key: next((end for end in ends(key) if known.count(end) == 1), key) for key in keys}
