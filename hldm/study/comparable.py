"""Which figures may be compared: those that were measured in the same way, as the provenance of their runs says.

FID depends on the number of samples, on the features and on the reference, so figures that differ in one of them are
apart for a reason that no model has. Where an entry is lacking, as in results of earlier versions, nothing is known
and nothing is compared. What can move a number but should not (versions, threads, machine) is a caution.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hldm.config.schema import RunConfig
from hldm.study.cells import Finished
from hldm.study.measures import CURVES, Figure

Terms = tuple[tuple[str, str], ...]
"""(What it is, its value) of everything that a figure rests on."""

UNKNOWN = "?"


def terms(figure: Figure, run: Finished, config: RunConfig) -> Terms:
    """What a figure of a run rests on; `UNKNOWN` where its results do not say it."""
    made = run.provenance
    kind = figure.measure.rests_on
    found: dict[str, Any] = {}
    if kind in ("samples", "labels", "rebuilt"):
        found |= {"n": made.get("samples"), "rule of samples": made.get("rule")}
    if kind in ("samples", "rebuilt"):
        found |= {"reference": made.get("reference"), "extractor": _extractor(made, figure.extractor)}
    if figure.metric == "kid":
        found["pairs of KID"] = made.get("kid", "as they are, in results of earlier versions")
    if kind == "labels":
        found["classifier"] = _named(made.get("classifier"))
    if curve := CURVES.get(figure.place):
        found[f"curve of {curve}"] = _scales(run.curves.get(curve, {}))
    if kind == "images":
        found["test images"] = config.metrics.first_stage_images
    if kind == "bound":
        found["test images"] = len(run.per_image.get(figure.name, ())) or config.metrics.likelihood_images
        found["steps of the solver"] = config.metrics.likelihood_steps
    if kind == "likelihood" and config.metrics.likelihood is not None:
        found["likelihood"] = config.metrics.likelihood.dump()
    return tuple((what, words(value)) for what, value in found.items())


def _extractor(made: Mapping[str, Any], name: str) -> Any:
    """Name and hash of the leading extractor, or of the one with that name."""
    there = made.get("extractors")
    sections = [one for one in there if isinstance(one, Mapping)] if isinstance(there, list) else []
    return _named(next((one for one in sections if not name or one.get("name") == name), None))


def _named(section: Any) -> str | None:
    if not isinstance(section, Mapping) or not section.get("name"):
        return None
    return f"{section['name']} {str(section.get('sha256', ''))[:8]}".strip()


def _scales(curve: Mapping[str, Any]) -> Any:
    values = [point["value"] for point in curve.get("points", ())]
    return {"split": curve.get("split"), "n": curve.get("samples"), "values": values} if values else None


def words(value: Any) -> str:
    """An entry of provenance as people read it; `UNKNOWN` for none."""
    if value in (None, "", [], {}):
        return UNKNOWN
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {words(part)}" for name, part in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def usual(found: Iterable[Terms]) -> Terms | None:
    """What most of them are, the first of these where several are equally frequent; known ones before others."""
    counts = Counter(found)
    return max(counts, key=lambda one: (not is_unknown(one), counts[one]), default=None)


def is_unknown(found: Terms) -> bool:
    """Whether something of it is not known."""
    return any(value == UNKNOWN for _, value in found)


def difference(there: Terms, here: Terms) -> str | None:
    """Why figures that rest on these cannot be compared; None where they can."""
    if lacking := [what for what, value in here if value == UNKNOWN]:
        return f"its results do not say {_listed(lacking)}, as those of earlier versions"
    if lacking := [what for what, value in there if value == UNKNOWN]:
        return f"results of the baseline do not say {_listed(lacking)}, as those of earlier versions"
    before = dict(there)
    apart = [f"{what} is {value}, there {before[what]}" for what, value in here if before.get(what, value) != value]
    return "; ".join(apart) or None


def data_difference(there: Finished, here: Finished) -> str | None:
    """Why two runs of one seed cannot be compared: they saw other data; None where they can."""
    known = [run.provenance.get("data") for run in (there, here)]
    if not all(known):
        return "results do not say which data they are of, as those of earlier versions"
    return None if known[0] == known[1] else "the data are others"


ENVIRONMENT = {
    "hldm": lambda made: made.get("hldm"),
    "commit": lambda made: made.get("commit") and str(made["commit"])[:8] + (" changed" if made.get("dirty") else ""),
    "torch": lambda made: _part(made, "versions", "torch"),
    "diffusers": lambda made: _part(made, "versions", "diffusers"),
    "threads": lambda made: made.get("threads"),
    "machine": lambda made: made.get("machine"),
    "sampling seeds": lambda made: made.get("sampling_seeds"),
}
"""What should not move a number, or only its noise → how it is read from provenance."""


def _part(made: Mapping[str, Any], section: str, name: str) -> Any:
    found = made.get(section)
    return found.get(name) if isinstance(found, Mapping) else None


def cautions(runs: Sequence[Finished]) -> list[str]:
    """A sentence for each thing in which the runs differ and which should not matter, but can."""
    sentences = []
    for what, read in ENVIRONMENT.items():
        counts = Counter(words(read(run.provenance)) for run in runs)
        if len(counts) > 1:
            each = (f"{value if value != UNKNOWN else 'not said'} ({_runs(n)})" for value, n in counts.most_common(4))
            more = f" and {len(counts) - 4} more" if len(counts) > 4 else ""
            sentences.append(f"Not all runs have the same {what}: {', '.join(each)}{more}.")
    return sentences


def _runs(n: int) -> str:
    return f"{n} run{'s' if n > 1 else ''}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


class LeftOut:
    """What cannot be compared, collected so that a sentence names a cell, its seeds, all figures, and one reason."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str | None, str, bool, tuple[int, ...]], list[str]] = {}

    def add(self, cell: str, base: str | None, one: Figure, apart: Mapping[int, str], runs: int) -> None:
        """These seeds of a cell are left out of a figure, each for its reason."""
        for reason in dict.fromkeys(apart.values()):
            seeds = tuple(seed for seed, why in apart.items() if why == reason)
            key = (cell, base, reason, len(seeds) == runs, seeds)
            self._found.setdefault(key, []).append(one.heading)

    def sentences(self) -> list[str]:
        """One for each cell and reason."""
        found = []
        for (cell, base, reason, is_all, seeds), headings in self._found.items():
            few = list(dict.fromkeys(headings))
            figures = "; ".join(few[:3]) + (f" and {len(few) - 3} more figures" if len(few) > 3 else "")
            which = "" if is_all else f", seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))},"
            what = (
                f"is left out of its cell's {figures}" if base is None else f"is not compared with {base} in {figures}"
            )
            found.append(f"{cell}{which} {what}: {reason}.")
        return found
