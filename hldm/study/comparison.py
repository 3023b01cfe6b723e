"""Cells of runs compared: means and differences with intervals, what may be compared, what seeds and sampling add.

`compare` computes it once, for the table in the terminal, for the pages of docs/results/ and for whatever shows it
elsewhere: a `Comparison` is plain data, and `as_json` gives it to programs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from statistics import fmean
from typing import Any

from hldm.study import statistics
from hldm.study.cells import Cell, Finished, baselines, cell_names
from hldm.study.comparable import LeftOut, Terms, cautions, data_difference, difference, terms, usual
from hldm.study.curves import Curve, at_the_end, curve, settings_of_curves
from hldm.study.measures import Figure, figures
from hldm.study.statistics import ImagePairs, Interval, paired_difference

ERROR = 0.05
MOST_DOUBLES = 4
"""Runs that are named."""


@dataclass(frozen=True)
class Difference:
    """A cell less its baseline in one figure, paired by seed.

    Attributes:
        cell, baseline: their names.
        figure: the name in results.json.
        interval: of the difference, over `seeds`; where images pair, it holds the choice of images as well.
        seeds: that both have, measured in the same way.
        p: of the t test; None for one seed, and where the difference is the same in every seed.
        adjusted: p by Holm over the `comparisons` of the figure's group.
        twin: a figure that has the same values in all of these runs, and so is the same comparison; "" for none.
        simultaneous: the margin with which all intervals of the group hold at once.
        effect: one that would matter, by convention (`measures`).
        needed: seeds that would show it in 80 % of cases, at the first of Holm's steps.
        detectable: the effect that these seeds show in 80 % of cases, at that step. Neither is known where images pair:
            more seeds do not narrow what the choice of images leaves open.
        sampling_share: of the variance between seeds, what the noise of sampling alone gives; None where not known, as
            where each run has one sampling seed.
        images: what pairing by image says.
        real: what real images score in place of samples, where that is known.
        baseline_mean: over the same seeds.
    """

    cell: str
    baseline: str
    figure: str
    interval: Interval
    seeds: tuple[int, ...]
    baseline_mean: float
    p: float | None = None
    adjusted: float | None = None
    twin: str = ""
    comparisons: int = 0
    simultaneous: float | None = None
    effect: float | None = None
    needed: int | None = None
    detectable: float | None = None
    sampling_share: float | None = None
    images: ImagePairs | None = None
    real: float | None = None

    @property
    def is_same(self) -> bool:
        """Whether the two agree exactly in several seeds, as where they share a first stage."""
        return self.interval.mean == self.interval.sd == 0


@dataclass(frozen=True)
class CellFigures:
    """The figures of a cell.

    Attributes:
        name: as in "poincare c=1".
        settings: what makes it, setting → value.
        baseline: the cell it is compared with, None for a baseline.
        seeds: of the finished runs.
        unfinished: seed → state of the others.
        intervals: figure → mean over seeds with its interval, of the runs that were measured alike.
        values: figure → seed → value, of the same runs.
        real: metric → what real images score.
    """

    name: str
    settings: Mapping[str, str]
    baseline: str | None
    seeds: tuple[int, ...]
    unfinished: Mapping[int, str]
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    values: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    real: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """All that is said of some runs beside each other.

    Attributes:
        cells: in the order of the grid.
        figures: what is compared, in the order of tables.
        differences: of every cell from its baseline, in every figure where both compare.
        curves: guidance and the like.
        exclusions: sentences: what cannot be compared, and why.
        cautions: sentences: what differs between runs and should not matter, and choices that may not be the best.
        leading: the short name of the extractor whose figures have plain names.
    """

    cells: Sequence[CellFigures]
    figures: Sequence[Figure]
    differences: Sequence[Difference]
    curves: Sequence[Curve]
    exclusions: Sequence[str]
    cautions: Sequence[str]
    leading: str = ""

    def of(self, cell: str, name: str) -> Difference | None:
        """The difference of a cell in a figure; None for a baseline, and where it cannot be compared."""
        return next((one for one in self.differences if (one.cell, one.figure) == (cell, name)), None)

    def as_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers."""
        return asdict(self)


def compare(found: Sequence[Cell], chosen: Callable[[Figure], bool] = lambda figure: figure.is_headline) -> Comparison:
    """Compare cells: each with its baseline (`baselines`), seed by seed, in every figure that both have.

    Args:
        found: the cells.
        chosen: which figures. Each is a comparison more that p-values are corrected for.
    """
    names, against = cell_names(found), baselines(found)
    runs = [run for cell in found for run in cell.runs.values()]
    leading, *others = _extractors(runs)
    shown = [one for one in figures({name for run in runs for name in run.metrics}, others) if chosen(one)]
    left_out = LeftOut()
    summaries: list[CellFigures] = []
    differences: list[Difference] = []
    curves: list[Curve] = []
    name_of = dict(zip(found, names, strict=True))
    rests = cache(_terms)  # a baseline is asked for every cell that is compared with it
    for cell, base in zip(found, against, strict=True):
        name, base_name = name_of[cell], None if base is None else name_of[base]
        values: dict[str, dict[int, float]] = {}
        own: list[Difference] = []
        for one in shown:
            alike, apart = _alike(rests(one, cell), {} if base is None else rests(one, base), has_base=base is not None)
            values[one.name] = {seed: cell.runs[seed].metrics[one.name] for seed in alike}
            left_out.add(name, base_name, one, apart, len(cell.runs))
            if base is not None and base_name is not None and not alike.keys() & apart.keys():
                pairs, unpaired = _pairs(alike, rests(one, base), cell, base)
                left_out.add(name, base_name, one, unpaired, len(cell.runs))
                if pairs:
                    own.append(_difference(one, pairs, (name, cell), (base_name, base)))
        differences += _twins(own, shown, dict(zip(names, found, strict=True)))
        summaries.append(_summary(cell, name, base_name, values))
        curves += [curve(setting, name, cell, base) for setting in settings_of_curves(cell)]
    return Comparison(
        summaries,
        shown,
        list(_corrected(differences, shown)),
        curves,
        left_out.sentences(),
        [*_of_doubles(found), *cautions(runs), *_of_choices(summaries, shown, curves)],
        leading,
    )


def _of_doubles(found: Sequence[Cell]) -> Iterator[str]:
    """A sentence where several runs have the same settings and seed, as where a folder was copied."""
    if names := [name for cell in found for name in cell.doubles]:
        more = f" and {len(names) - MOST_DOUBLES} more" if len(names) > MOST_DOUBLES else ""
        yield f"Not counted, as other runs have the same settings and seed: {', '.join(names[:MOST_DOUBLES])}{more}."


def _of_choices(cells: Sequence[CellFigures], shown: Sequence[Figure], curves: Sequence[Curve]) -> Iterator[str]:
    """A sentence for each guidance that stands at the end of its curve, or is worse on test images than none is."""
    yield from filter(None, map(at_the_end, curves))
    names = {(one.metric, one.extractor, one.place): one for one in shown}
    for cell in cells:
        for (metric, extractor, place), best in names.items():
            none = names.get((metric, extractor, "unguided"))
            if metric != "fid" or place != "best" or none is None:
                continue
            chosen, without = (cell.intervals.get(one.name) for one in (best, none))
            if chosen and without and chosen.mean > without.mean:
                yield (
                    f"{cell.name}: {best.heading}, is {chosen.mean:.3g} on test images, and {without.mean:.3g} with no "
                    "guidance: what is best on validation images need not be best on test images."
                )


def _extractors(runs: Iterable[Finished]) -> list[str]:
    """Short names, the leading one first; "" where nothing is known of it."""
    leading = ""
    others: dict[str, None] = {}
    for run in runs:
        there = run.provenance.get("extractors")
        there = there if isinstance(there, list) else []  # results may be damaged
        names = [one["name"] for one in there if isinstance(one, dict) and one.get("name")]
        leading = leading or next(iter(names), "")
        others |= dict.fromkeys(names[1:])
    return [leading, *others]


def _terms(one: Figure, cell: Cell) -> dict[int, Terms]:
    """Seed → what the figure rests on, of the runs that have it."""
    return {seed: terms(one, run, cell.config) for seed, run in cell.runs.items() if one.name in run.metrics}


def _alike(
    own: Mapping[int, Terms], there: Mapping[int, Terms], *, has_base: bool
) -> tuple[dict[int, Terms], dict[int, str]]:
    """The runs of a cell whose figure was measured as the baseline's was, and why the others are left out.

    Where none was, they are those that were measured as most of the cell were, and all of them have a reason: the cell
    has a mean then, and no difference.
    """
    leading = usual(there.values()) or usual(own.values())
    if leading is None:
        return {}, {}
    reasons = {seed: difference(leading, mine) for seed, mine in own.items()}
    apart = {seed: reason for seed, reason in reasons.items() if reason}
    if not has_base:
        # what is lacking everywhere keeps nobody from a mean; it is said where a difference would be made
        usual_ones = {seed: mine for seed, mine in own.items() if mine == leading}
        return usual_ones, {seed: reason for seed, reason in apart.items() if seed not in usual_ones}
    if apart.keys() == own.keys():
        most = usual(own.values())
        return {seed: mine for seed, mine in own.items() if mine == most}, apart
    return {seed: mine for seed, mine in own.items() if seed not in apart}, apart


def _pairs(
    alike: Mapping[int, Terms], there: Mapping[int, Terms], cell: Cell, base: Cell
) -> tuple[list[int], dict[int, str]]:
    """The seeds in which a cell and its baseline compare, and why others do not; seeds that one lacks are no matter."""
    reasons = {
        seed: difference(there[seed], mine) or data_difference(base.runs[seed], cell.runs[seed])
        for seed, mine in alike.items()
        if seed in there
    }
    unlike = {seed: reason for seed, reason in reasons.items() if reason}
    return [seed for seed in reasons if seed not in unlike], unlike


def _difference(one: Figure, seeds: Sequence[int], here: tuple[str, Cell], there: tuple[str, Cell]) -> Difference:
    (name, cell), (base_name, base) = here, there
    ours = {seed: cell.runs[seed] for seed in seeds}
    theirs = {seed: base.runs[seed] for seed in seeds}
    values = {seed: run.metrics[one.name] for seed, run in ours.items()}
    others = {seed: run.metrics[one.name] for seed, run in theirs.items()}
    interval = paired_difference(values, others)
    assert interval is not None
    noise = [_sampling_variance(one.name, ours[seed], theirs[seed]) for seed in seeds]
    known = [value for value in noise if value is not None]
    baseline_mean = fmean(others.values())
    images = ImagePairs.of(_images(one.name, ours), _images(one.name, theirs))
    interval = interval.with_error(images.common, images.images - 1) if images else interval
    return Difference(
        cell=name,
        baseline=base_name,
        figure=one.name,
        interval=interval,
        seeds=tuple(seeds),
        baseline_mean=baseline_mean,
        p=interval.p,
        effect=one.measure.effect * (abs(baseline_mean) if one.measure.is_relative else 1),
        sampling_share=statistics.sampling_share([values[seed] - others[seed] for seed in seeds], known)
        if len(known) == len(noise)
        else None,
        images=images,
        real=_real(f"{one.metric}_{one.extractor}" if one.extractor else one.metric, ours.values()),
    )


def _images(name: str, runs: Mapping[int, Finished]) -> dict[int, Sequence[float]]:
    return {seed: run.per_image[name] for seed, run in runs.items() if len(run.per_image.get(name, ())) > 1}


def _sampling_variance(name: str, run: Finished, base: Finished) -> float | None:
    """The variance that a difference of two trained models has from sampling; None where nothing says it.

    Two or more sampling seeds do, which both drew the same noise for: differences are paired by them. What the
    bootstrap says of each model alone is several times too large for a difference of models with common noise.
    """
    drawn = [(of_seed, base.per_sampling_seed.get(seed, {})) for seed, of_seed in run.per_sampling_seed.items()]
    apart = [ours[name] - theirs[name] for ours, theirs in drawn if name in ours and name in theirs]
    return statistics.sd_of(apart) ** 2 / len(apart) if len(apart) > 1 else None


def _real(metric: str, runs: Iterable[Finished]) -> float | None:
    """What real images score in place of samples."""
    floors = [run.metrics[f"floor_{metric}"] for run in runs if f"floor_{metric}" in run.metrics]
    return fmean(floors) if floors else None


def _summary(cell: Cell, name: str, base: str | None, values: Mapping[str, dict[int, float]]) -> CellFigures:
    intervals = {figure: Interval.of(of_seed.values()) for figure, of_seed in values.items()}
    metrics = dict.fromkeys(key for run in cell.runs.values() for key in run.metrics if key.startswith("floor_"))
    real = {key.removeprefix("floor_"): _real(key.removeprefix("floor_"), cell.runs.values()) for key in metrics}
    return CellFigures(
        name=name,
        settings=cell.settings,
        baseline=base,
        seeds=tuple(cell.runs),
        unfinished=cell.unfinished,
        intervals={figure: interval for figure, interval in intervals.items() if interval},
        values={figure: of_seed for figure, of_seed in values.items() if of_seed},
        real={metric: value for metric, value in real.items() if value is not None},
    )


def _corrected(differences: Sequence[Difference], shown: Sequence[Figure]) -> Iterator[Difference]:
    """The differences with p-values corrected for their number, within the group of their figure.

    What is the same in every seed was not tested and does not count, and of figures with the same values one does.
    """
    group = {one.name: one.measure.group for one in shown}
    tested: dict[str, list[Difference]] = {}
    for one in differences:
        if one.p is not None and not one.twin:
            tested.setdefault(group[one.figure], []).append(one)
    found: dict[tuple[str, str], Difference] = {}
    for of_group in tested.values():
        m = len(of_group)
        for one, adjusted in zip(of_group, statistics.holm([one.p or 0.0 for one in of_group]), strict=True):
            found[one.cell, one.figure] = _with_power(
                replace(one, adjusted=adjusted, comparisons=m, simultaneous=one.interval.simultaneous(m))
            )
    for one in differences:
        of_twin = found.get((one.cell, one.twin or one.figure))
        yield replace(of_twin, figure=one.figure, twin=one.twin) if of_twin else one


def _with_power(one: Difference) -> Difference:
    sd, effect = one.interval.sd, one.effect
    assert sd is not None
    assert effect is not None
    if one.images:
        return one
    needed = statistics.seeds_to_detect(effect, sd, one.comparisons)
    return replace(one, needed=needed, detectable=statistics.detectable(one.interval.n, one.comparisons) * sd)


def _twins(
    differences: Sequence[Difference], shown: Sequence[Figure], found: Mapping[str, Cell]
) -> Iterator[Difference]:
    """The differences of a cell, those marked that say the same as a later one: the metric at another place.

    Best guidance, where every run chose the scale that it has by its settings anyway.
    """
    what = {one.name: (one.metric, one.extractor) for one in shown}
    values = [
        (
            what[one.figure],
            [found[name].runs[seed].metrics[one.figure] for name in (one.cell, one.baseline) for seed in one.seeds],
        )
        for one in differences
    ]
    for i, one in enumerate(differences):
        twin = next((differences[j].figure for j in range(len(values) - 1, i, -1) if values[j] == values[i]), "")
        yield replace(one, twin=twin) if one.p is not None else one
