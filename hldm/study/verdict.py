"""A comparison in plain words: what is shown, what is excluded, and what it would take to see more."""

import math
from collections.abc import Iterator, Sequence

from hldm.study.comparison import ERROR, Comparison, Difference
from hldm.study.curves import seeds_in_words
from hldm.study.measures import CURVES, PLACES, Figure

BOUNDED_BY_REAL = ("label_accuracy", "precision", "inception_score")
"""More is better up to what real images have, and beyond it a sign of samples that are clearer or more alike."""

ONE_SEED = (
    "A difference of single runs has no error, so one seed shows nothing about the settings: seed=0,1,2,3,4 would."
)


def decimals(size: float | None, otherwise: int) -> int:
    """Decimals that show two digits of a margin."""
    if not size or not math.isfinite(size):
        return otherwise
    return min(6, max(0, 1 - math.floor(math.log10(size))))


def numbers(one: Figure, difference: Difference) -> tuple[str, int]:
    """A difference with its margin, as "+0.38 ± 0.17", and the decimals it has."""
    scale = one.measure.scale
    margin = difference.interval.margin
    digits = decimals(margin and margin * scale, one.measure.digits)
    text = f"{difference.interval.mean * scale:+z.{digits}f}"  # z: no minus before 0.0
    return (text if margin is None else f"{text} ± {margin * scale:.{digits}f}"), digits


def is_shown(difference: Difference) -> bool:
    """Whether it stands after the correction for the number of comparisons."""
    return difference.adjusted is not None and difference.adjusted < ERROR


def direction(one: Figure, difference: Difference) -> str:
    """better or worse; higher or lower where neither is.

    That is so beyond real images: of two label accuracies about that of real images, the farther one is no better.
    """
    is_higher = difference.interval.mean > 0
    middle = difference.baseline_mean + difference.interval.mean / 2
    is_beyond_real = one.metric in BOUNDED_BY_REAL and difference.real is not None and middle >= difference.real
    if not one.measure.better or is_beyond_real:
        return "higher" if is_higher else "lower"
    return "better" if is_higher == (one.measure.better == "higher") else "worse"


def sentence(one: Figure, difference: Difference, seeds: int) -> str:
    """What one difference says, in a comparison over so many seeds."""
    shown, digits = numbers(one, difference)
    scale = one.measure.scale
    text = f"{one.heading}: {shown}"
    if difference.p is None or difference.adjusted is None:
        why = "one seed shows nothing" if len(difference.seeds) < 2 else "the same in every seed, which tells no error"
        return f"{text}, {why}."
    if len(difference.seeds) < seeds:
        text += f" over {len(difference.seeds)} seeds"
    corrected = f"p {p_words(difference.adjusted)} by Holm over {difference.comparisons}"
    far = difference.interval.farthest or 0.0
    parts = []
    if is_shown(difference):
        text += f", {direction(one, difference)} ({corrected})"
    else:
        if difference.p < ERROR:
            text += f", {direction(one, difference)} by itself but not shown ({corrected})"
        else:
            text += ", no difference shown"
        parts.append(f"effects above {far * scale:.{digits}f} are excluded")
        parts += _what_seeds_show(difference, scale, digits)
    if images := difference.images:
        errors = list(images.within.values())
        parts.append(
            f"paired by {images.images} images the standard error within a seed is {min(errors):.2g} to "
            f"{max(errors):.2g}, and {images.common:.2g} of the mean from the choice of images, which ± and p hold"
        )
    if difference.real is not None and one.metric in BOUNDED_BY_REAL:
        parts.append(f"real images have {difference.real * scale:.{max(1, one.measure.digits)}f}")
    return "; ".join([text, *parts]) + "."


def _what_seeds_show(difference: Difference, scale: float, digits: int) -> Iterator[str]:
    """How many seeds would show an effect that matters; nothing where the seeds that there are do."""
    n, needed = difference.interval.n, difference.needed
    if not difference.effect or not difference.detectable or (needed is not None and needed <= n):
        return
    found, asked = difference.detectable * scale, difference.effect * scale
    digits = max(digits, decimals(asked, digits))
    many = "more than 10,000" if needed is None else f"{needed:,}"
    yield f"{many} seeds would show {asked:.{digits}f}, these {n} show {found:.{digits}f}"


def p_words(p: float) -> str:
    """A p-value with two digits."""
    return "< .001" if p < 0.001 else f"{p:.2g}".replace("0.", ".", 1)


def verdict(comparison: Comparison, cell: str) -> list[str]:
    """The sentences on one cell: what it is compared with, every difference, and what these rest on."""
    differences = [one for one in comparison.differences if one.cell == cell]
    if not differences:
        return []
    known = {one.name: one for one in comparison.figures}
    n = max(len(one.seeds) for one in differences)
    title = f"{cell} against {differences[0].baseline} over {n} seed{'s' if n > 1 else ''}"
    if n < 2:
        return [f"{title}: {ONE_SEED}"]
    same = [known[one.figure].heading for one in differences if one.is_same]
    return [
        f"{title}:",
        *(sentence(known[one.figure], one, n) for one in differences if not one.is_same and not one.twin),
        *twins(differences, known),
        *([f"The same in every seed: {'; '.join(same)}."] if same else []),
        *lacking(comparison, cell, differences[0].baseline),
        *disagreements(differences, known, comparison.leading or "the leading one"),
        *sampling(differences, known),
    ]


def twins(differences: Sequence[Difference], known: dict[str, Figure]) -> Iterator[str]:
    """A sentence for each figure that has the values of another in all runs: they are one comparison."""
    for one in differences:
        if one.twin and not one.is_same:
            yield f"{known[one.figure].heading} is {known[one.twin].heading} in every run, and counts once."


def lacking(comparison: Comparison, cell: str, baseline: str) -> Iterator[str]:
    """Sentences on runs of either side that have not finished: the seeds that are left may be the easy ones."""
    for one in comparison.cells:
        if one.name not in (cell, baseline):
            continue
        failed = [seed for seed, state in sorted(one.unfinished.items()) if state == "failed"]
        others = sorted(one.unfinished.keys() - set(failed))
        if failed:
            yield (
                f"Failed, and not in this: {seeds_in_words(failed)} of {one.name}. Where hard seeds fail, the others "
                "flatter a cell."
            )
        if others:
            yield f"Not finished yet, and not in this: {seeds_in_words(others)} of {one.name}."


def overview(comparison: Comparison, cell: str) -> str:
    """One cell in a sentence: the differences that are shown, and how many are not; "" for a baseline."""
    differences = [one for one in comparison.differences if one.cell == cell]
    if not differences:
        return ""
    known = {one.name: one for one in comparison.figures}
    n = max(len(one.seeds) for one in differences)
    title = f"{cell} against {differences[0].baseline}"
    if n < 2:
        return f"{title}: one seed shows nothing."
    shown: dict[str, list[str]] = {}
    for one in differences:
        if not is_shown(one) or one.twin:
            continue
        figure = known[one.figure]
        _, comma, unit = figure.measure.heading.partition(", ")
        heading = figure.heading.replace(f"{comma}{unit}", "", 1) if unit else figure.heading
        shown.setdefault(direction(figure, one), []).append(f"{heading} {numbers(figure, one)[0]} {unit}".rstrip())
    parts = [f"{way} in {' and '.join(figures)}" for way, figures in shown.items()]
    others = sum(one.p is not None and not one.twin and not is_shown(one) for one in differences)
    parts += [f"no difference shown in {others} {'other ' if parts else ''}figures"] if others else []
    parts = parts or ["the same in every figure"]
    return f"{title} over {n} seeds: {'; '.join(parts)}."


def disagreements(differences: Sequence[Difference], known: dict[str, Figure], leading: str) -> Iterator[str]:
    """A sentence for each metric and place where extractors differ in the sign of the difference."""
    grouped: dict[tuple[str, str], list[Difference]] = {}
    for one in differences:
        grouped.setdefault((known[one.figure].metric, known[one.figure].place), []).append(one)
    for (_, place), of_extractors in grouped.items():
        if len({one.interval.mean > 0 for one in of_extractors if one.interval.mean}) < 2:
            continue
        first = known[of_extractors[0].figure]
        each = [
            f"{numbers(known[one.figure], one)[0]} by {known[one.figure].extractor or leading}" for one in of_extractors
        ]
        shown = sum(map(is_shown, of_extractors))
        signs = {one.interval.mean > 0 for one in of_extractors if is_shown(one)}
        rests = "both shown" if len(signs) == 2 else "one of them shown" if shown else "neither shown"
        at = f", {PLACES[place]}" if place else ""
        yield f"The extractors disagree in the sign of {first.measure.heading}{at}: {', '.join(each)} ({rests})."


def sampling(differences: Sequence[Difference], known: dict[str, Figure]) -> Iterator[str]:
    """A sentence on what of the spread between seeds is sampling, and what of it training."""
    apart = [one for one in differences if not one.is_same]
    shares = [(known[one.figure].heading, one.sampling_share) for one in apart if one.sampling_share is not None]
    if not shares:
        return
    each = ", ".join(f"{heading} {share:.0%}" for heading, share in shares)
    mostly = [heading for heading, share in shares if share >= 0.5]
    remedy = (
        f"more samples or sampling seeds would narrow {', '.join(mostly)}; more training seeds the rest"
        if len(mostly) < len(shares) and mostly
        else "more samples or sampling seeds would narrow them"
        if mostly
        else "more training seeds would narrow them, more samples hardly"
    )
    yield f"Of the variance of differences between seeds sampling alone gives: {each}; training the rest: {remedy}."


def footnotes(comparison: Comparison) -> list[str]:
    """What the numbers mean, and how they were corrected."""
    tested: dict[str, int] = {}
    group = {one.name: one.measure.group for one in comparison.figures}
    for one in comparison.differences:
        if one.comparisons:
            tested[group[one.figure]] = one.comparisons
    if not tested:
        return []
    counts = ", ".join(f"{name} {n}" for name, n in tested.items())
    has_places = any(one.place in CURVES for one in comparison.figures)
    return [
        "± is the 95 % interval of each difference by itself (Student's t over training seeds, paired by seed), and an "
        "effect is excluded where it lies beyond both ends. Verdicts are corrected by Holm for the number of "
        f"comparisons within a group ({counts}): an error in any verdict of a group has a chance of 5 % at most. Seeds "
        "that would show an effect: in 80 % of cases, by the spread found here, at the correction's strictest step."
        + (
            " Without a word of guidance figures are at the scale that the run has by its settings."
            if has_places
            else ""
        )
    ]
