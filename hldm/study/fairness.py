"""How fairly runs were compared: a list of checks, each with the facts of provenance and configuration behind it."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hldm.config.schema import RunConfig
from hldm.run.directory import is_number
from hldm.study.cells import Cell, Finished, baselines, cell_names, is_of_geometry, own_settings, short_names
from hldm.study.comparable import ENVIRONMENT, UNKNOWN, words

PARAMETERS = 0.01
"""How far the numbers of parameters may be apart, as a share of the smaller."""

MOST_FACTS = 4
"""Values that are told where runs differ."""


@dataclass(frozen=True)
class Check:
    """Something that should be the same in all runs.

    Attributes:
        what: it is, as a statement.
        holds: None where the results do not say.
        facts: the values, in words.
    """

    what: str
    holds: bool | None
    facts: str


@dataclass(frozen=True)
class _Known:
    cell: Cell
    seed: int
    run: Finished

    @property
    def made(self) -> Mapping[str, Any]:
        return self.run.provenance

    @property
    def config(self) -> RunConfig:
        return self.cell.config


def checklist(found: Sequence[Cell]) -> list[Check]:
    """The checks of some cells, those that decide most first. A single cell has none: nothing is compared."""
    runs = [_Known(cell, seed, run) for cell in found for seed, run in cell.runs.items()]
    if len(found) < 2 or not runs:
        return []
    return [
        _finished(found),
        _seeds(found),
        _one_difference(found),
        _alike("Same data for the same seed", runs, lambda one: one.made.get("data"), short=True, by_seed=True),
        _alike("Same batches in the same order for the same seed", runs, _order, short=True, by_seed=True),
        _alike("Same training: steps, batches, optimiser", runs, _training),
        _parameters(runs),
        _alike("Same number of samples, drawn by one rule", runs, _samples),
        _alike("Same reference images", runs, lambda one: one.made.get("reference")),
        _alike("Same extractors", runs, _extractors),
        _alike("Same classifier", runs, lambda one: _hashed(one.made.get("classifier"))),
        _alike("Same sampler, steps and guidance", runs, _sampler),
        _alike("Choices were made on the same validation images", runs, _choices),
        _alike("Same code", runs, _code),
        _alike("Same versions of libraries", runs, lambda one: one.made.get("versions")),
        _alike("Same class of hardware", runs, lambda one: one.made.get("machine")),
        _alike("Same number of threads", runs, lambda one: one.made.get("threads")),
    ]


def summary(checks: Sequence[Check]) -> str:
    """How many hold, and the names of those that do not."""
    failed = [check.what for check in checks if check.holds is False]
    unknown = [check.what for check in checks if check.holds is None]
    parts = [f"{len(checks) - len(failed) - len(unknown)} of {len(checks)} checks of fairness hold"]
    parts += [f"not: {'; '.join(failed)}"] if failed else []
    parts += [f"not known: {'; '.join(unknown)}"] if unknown else []
    return ". ".join(part[0].upper() + part[1:] for part in parts) + "."


def _finished(found: Sequence[Cell]) -> Check:
    states: dict[str, int] = {}
    for cell in found:
        for state in cell.unfinished.values():
            states[state] = states.get(state, 0) + 1
    done = sum(len(cell.runs) for cell in found)
    others = "".join(f", {n} {state}" for state, n in states.items())
    return Check("All runs have finished", not states, f"{done} finished{others}")


def _seeds(found: Sequence[Cell]) -> Check:
    sets = {name: tuple(sorted(cell.runs)) for name, cell in zip(cell_names(found), found, strict=True)}
    every = tuple(sorted({seed for seeds in sets.values() for seed in seeds}))
    lacking = {name: sorted(set(every) - set(seeds)) for name, seeds in sets.items() if seeds != every}
    all_seeds = ", ".join(map(str, every))
    if not lacking:
        few = "; one seed shows nothing about the settings" if len(every) == 1 else ""
        return Check("Same seeds in every cell, more than one", len(every) > 1, f"{all_seeds}{few}")
    each = [f"{name} lacks {', '.join(map(str, seeds))}" for name, seeds in lacking.items()]
    return Check("Same seeds in every cell, more than one", False, f"{all_seeds}; {_few(each)}")


def _one_difference(found: Sequence[Cell]) -> Check:
    """Whether each cell differs from its baseline in its geometry, or in one other setting, alone."""
    what = "Each cell differs from its baseline in its geometry, or in one setting, alone"
    names = dict(zip(found, cell_names(found), strict=True))
    own = dict(zip(found, own_settings([cell.config for cell in found]), strict=True))
    several, facts = [], []
    for cell, base in zip(found, baselines(found), strict=True):
        if base is None:
            continue
        keys = dict.fromkeys((*own[base], *own[cell]))
        apart = [key for key in keys if own[base].get(key) != own[cell].get(key)]
        others = [key for key in apart if not is_of_geometry(key)]
        # options bring several settings along, as those of a sampler that a process needs
        groups = dict.fromkeys(key.split(".")[0] for key in others)
        if len(groups) + (len(others) < len(apart)) > 1:
            several.append(f"{names[cell]}: {', '.join([*short_names(others, ()).values()][:6])}")
        facts += ["geometry"] if len(others) < len(apart) else []
        facts += groups
    return Check(what, not several, _few(several) if several else ", ".join(dict.fromkeys(facts)) or "nothing differs")


def _parameters(runs: Sequence[_Known]) -> Check:
    what = f"Numbers of parameters within {PARAMETERS:.0%}"
    counts = [sum(_numbers(one.made.get("parameters")).values()) for one in runs]
    if not all(counts):
        return Check(what, None, "results do not say")
    least, most = min(counts), max(counts)
    apart = most / least - 1
    shown = f"{least:,.0f}" if least == most else f"{least:,.0f} to {most:,.0f}, {apart:.2%} apart"
    return Check(what, apart <= PARAMETERS, shown)


def _alike(
    what: str, runs: Sequence[_Known], read: Callable[[_Known], Any], *, short: bool = False, by_seed: bool = False
) -> Check:
    """Whether all runs, or all of each seed, have the same there.

    Args:
        read: what should be the same; None or empty where it is not known.
        short: it is a hash, of which eight characters are shown.
        by_seed: it may change with the seed.
    """
    found = [(one, words(read(one))) for one in runs]
    if unknown := sum(value == UNKNOWN for _, value in found):
        return Check(what, None, f"results of {unknown} of {len(found)} runs do not say")
    groups: dict[Hashable, dict[str, int]] = {}
    for one, value in found:
        counts = groups.setdefault(one.seed if by_seed else None, {})
        counts[value] = counts.get(value, 0) + 1
    values = list(dict.fromkeys(value[:8] if short else value for _, value in found))
    unlike = {seed: counts for seed, counts in groups.items() if len(counts) > 1}
    if not unlike:
        return Check(what, True, _few(values))
    seed, counts = next(iter(unlike.items()))
    each = [f"{value[:8] if short else value} ({n} run{'s' if n > 1 else ''})" for value, n in counts.items()]
    return Check(what, False, (f"seed {seed}: " if by_seed else "") + _few(each))


def _few(parts: Iterable[str]) -> str:
    shown = list(parts)
    more = f"; and {len(shown) - MOST_FACTS} more" if len(shown) > MOST_FACTS else ""
    return "; ".join(shown[:MOST_FACTS]) + more


def _numbers(value: Any) -> dict[str, float]:
    return {k: v for k, v in value.items() if is_number(v)} if isinstance(value, Mapping) else {}


def _order(one: _Known) -> Any:
    return one.made.get("data_order")


def _training(one: _Known) -> str:
    training, parts = one.config.training, []
    stages = (("first stage", training.first_stage if one.config.first_stage is None else None),
              ("diffusion", training.diffusion if one.config.has_diffusion else None))  # fmt: skip
    for name, stage in stages:
        if stage is not None:
            more = {
                key: value for key, value in stage.dump().items() if key not in ("steps", "batch_size", "optimizer")
            }
            shown = " ".join(f"{key} {value}" for key, value in more.items() if value not in (0.0, None))
            parts.append(f"{name} {stage.steps:,} steps of {stage.batch_size}: {shown}")
            if own := getattr(stage, "optimizer", None):
                parts.append(_in_short(own.dump()))
    return "; ".join([*parts, _in_short(training.optimizer.dump()), training.precision, f"weights: {training.keep}"])


def _in_short(optimizer: Mapping[str, Any]) -> str:
    """As in "Muon lr 0.1"."""
    name = str(optimizer.get("_target_")).rpartition(".")[2]
    return " ".join([name, *(f"{key} {value}" for key, value in optimizer.items() if key != "_target_")])


def _samples(one: _Known) -> Any:
    if not one.config.metrics.extractors:
        return "no samples are judged"
    if not one.made.get("samples") or not one.made.get("rule"):
        return None
    return {"n": one.made["samples"], "rule": one.made["rule"], "sampling seeds": one.made.get("sampling_seeds")}


def _hashed(section: Any) -> str | None:
    if not isinstance(section, Mapping) or not section.get("name"):
        return None
    return f"{section['name']} {str(section.get('sha256', ''))[:8]}".strip()


def _extractors(one: _Known) -> str | None:
    there = one.made.get("extractors")
    return " and ".join(filter(None, map(_hashed, there))) if isinstance(there, list) else None


def _sampler(one: _Known) -> Any:
    section = one.config.diffusion.sampler
    if section is None or not one.config.has_diffusion:
        return "no diffusion"
    sampler = {key: value for key, value in section.dump().items() if key != "_target_"}
    if one.config.has_guidance:
        sampler["guidance"] = getattr(one.config.conditioning, "guidance_scale", None)
    return sampler


def _choices(one: _Known) -> Any:
    if not one.run.curves:
        return "nothing was chosen"
    return {setting: f"{curve.get('split')} (n {curve.get('samples')})" for setting, curve in one.run.curves.items()}


def _code(one: _Known) -> str | None:
    """Version and commit; what had changed since is not the same code as anything."""
    commit, version = ENVIRONMENT["commit"](one.made), one.made.get("hldm")
    return f"hldm {version}" + (f" at {commit}" if commit else "") if version else None
