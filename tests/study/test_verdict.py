"""What a comparison says in words."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from hldm.config.compose import compose
from hldm.study.cells import Cell, Finished
from hldm.study.comparison import Comparison, compare
from hldm.study.statistics import Interval
from hldm.study.tables import interval_text
from hldm.study.verdict import ONE_SEED, decimals, direction, footnotes, p_words, sampling, verdict
from tests.study.made_runs import PROVENANCE

FLAT = compose(["geometry=euclidean", "tracking=none"])
BALL = compose(["geometry=poincare", "tracking=none"])


def finished(metrics: Mapping[str, float]) -> Finished:
    curve = {"split": "validation", "samples": 500, "points": [{"value": 1.0}, {"value": 1.5}]}
    return Finished.of({"metrics": {**metrics}, "provenance": PROVENANCE, "curves": {"guidance": curve}})


def of(flat: Mapping[str, list[float]], ball: Mapping[str, list[float]], **more: float) -> Comparison:
    """Metric → its value for each seed."""

    def runs(values: Mapping[str, list[float]]) -> dict[int, Finished]:
        n = len(next(iter(values.values())))
        of_seed = [{name: all_seeds[seed] for name, all_seeds in values.items()} for seed in range(n)]
        return {seed: finished(metrics | more) for seed, metrics in enumerate(of_seed)}

    cells = [({"geometry": "euclidean"}, FLAT, runs(flat)), ({"geometry": "poincare"}, BALL, runs(ball))]
    return compare([Cell(settings, config, found) for settings, config, found in cells])


def words(flat: Mapping[str, list[float]], ball: Mapping[str, list[float]], **more: float) -> list[str]:
    return verdict(of(flat, ball, **more), "poincare c=1")


def test_a_shown_difference_and_none() -> None:
    """The numbers of the issue: worse without guidance, nothing at each one's best."""
    title, worse, nothing = words(
        {"fid_unguided": [0.8, 0.82, 0.84], "fid_best": [0.28, 0.3, 0.27]},
        {"fid_unguided": [1.18, 1.21, 1.215], "fid_best": [0.31, 0.29, 0.33]},
    )
    assert title == "poincare c=1 against euclidean over 3 seeds:"
    assert worse == "FID, no guidance: +0.382 ± 0.019, worse (p < .001 by Holm over 2)."
    # differences .03, −.01, .06: mean .0267, sd .0351, margin .0872; d = .0283 / .0351 takes 18 seeds at 2.5 %
    assert nothing == (
        "FID, best guidance: +0.027 ± 0.087, no difference shown; effects above 0.114 are excluded; 18 seeds would "
        "show 0.028, these 3 show 0.162."
    )


def test_what_the_correction_takes_away_is_said() -> None:
    flat = {"fid": [1.0] * 5, "kid": [1.0] * 5, "recall": [0.8] * 5}
    _, fid, *_ = words(
        flat,
        {"fid": [0.9, 0.95, 0.8, 0.97, 0.9], "kid": [1.0, 1.1, 0.9, 1.2, 0.8], "recall": [0.8, 0.9, 0.7, 0.8, 0.8]},
    )
    assert fid.startswith("FID: -0.096 ± 0.082, better by itself but not shown (p .093 by Holm over 3); effects above")


@pytest.mark.parametrize(
    ("name", "apart", "expected"),
    [
        ("fid", -0.1, "better"),
        ("fid", 0.1, "worse"),
        ("recall", 0.1, "better"),
        ("label_accuracy", -0.1, "worse"),
        ("nll", 1.0, "worse"),
        ("elbo", 1.0, "better"),
        ("elbo_flow", -1.0, "worse"),
        ("elbo_kl", 1.0, "higher"),
        ("elbo_kl", -1.0, "lower"),
        ("reconstruction_mse", -0.1, "better"),
    ],
)
def test_which_way_is_better(name: str, apart: float, expected: str) -> None:
    found = of({name: [0.5, 0.6]}, {name: [0.5 + apart, 0.6 + apart]})
    assert direction(found.figures[0], found.differences[0]) == expected


def test_nothing_has_no_minus() -> None:
    said = " ".join(words({"elbo": [1.0, 3.0, 2.0]}, {"elbo": [3.0, 0.99, 2.0]}))
    assert "+0.0 ± 5.0" in said
    assert "-0.0 " not in said
    assert interval_text(Interval(-0.001, 1.5, 3, 1.0), 3) == "0.0 ± 1.5"


def test_more_than_real_images_is_not_better() -> None:
    """Guidance makes samples clearer than digits are."""
    flat, ball = {"label_accuracy": [0.992, 0.993, 0.992]}, {"label_accuracy": [0.996, 0.997, 0.997]}
    _, sentence = words(flat, ball, floor_label_accuracy=0.991)
    assert sentence == "label accuracy, %: +0.43 ± 0.14, higher (p .0059 by Holm over 1); real images have 99.1."
    # about real images: the one that is farther from them is not better, the one that is nearer is
    assert ", higher (" in words(flat, ball, floor_label_accuracy=0.994)[1]
    assert ", better (" in words(flat, ball, floor_label_accuracy=0.995)[1]


def test_precision_beyond_real_images_is_no_merit() -> None:
    flat, ball = {"precision": [0.892, 0.893, 0.892]}, {"precision": [0.875, 0.876, 0.876]}
    _, sentence = words(flat, ball, floor_precision=0.868)
    assert ", lower (" in sentence
    assert "real images have 0.868" in sentence
    assert ", worse (" in words(flat, ball, floor_precision=0.9)[1]
    # of the other extractor, what real images have by it
    flat, ball = ({f"{name}_unlabelled": values for name, values in side.items()} for side in (flat, ball))
    assert ", worse (" in words(flat, ball, floor_precision=0.868, floor_precision_unlabelled=0.9)[1]


def test_what_a_shared_first_stage_gives_is_not_a_finding() -> None:
    same = {"reconstruction_fid": [0.2, 0.3], "elbo": [-1.0, -2.0]}
    assert words({"fid": [1.0, 2.0], **same}, {"fid": [1.0, 3.0], **same})[-1] == (
        "The same in every seed: FID of reconstructions; bound with own prior, nats."
    )


def test_one_seed_shows_nothing() -> None:
    assert words({"fid": [1.0]}, {"fid": [2.0]}) == [f"poincare c=1 against euclidean over 1 seed: {ONE_SEED}"]
    assert footnotes(of({"fid": [1.0]}, {"fid": [2.0]})) == []
    assert verdict(of({"fid": [1.0]}, {"fid": [2.0]}), "euclidean") == []


def test_extractors_that_disagree_are_named() -> None:
    flat = {
        "fid_best": [1.0, 1.0, 1.0],
        "fid_unlabelled_best": [7.0, 7.0, 7.0],
        "fid": [1, 1, 1],
        "fid_unlabelled": [1, 1, 1],
    }
    ball = {
        "fid_best": [0.9, 0.91, 0.9],
        "fid_unlabelled_best": [8.0, 7.0, 9.0],
        "fid": [2, 3, 4],
        "fid_unlabelled": [2, 4, 3],
    }
    found = [line for line in words(flat, ball) if "disagree" in line]
    assert found == [
        "The extractors disagree in the sign of FID, best guidance: -0.097 ± 0.014 by digits, +1.0 ± 2.5 by unlabelled "
        "(one of them shown)."
    ]


def test_sampling_and_training_have_their_shares() -> None:
    flat, ball = {"fid": [1.0, 1.2, 1.1], "kid": [1.0, 1.0, 1.0]}, {"fid": [1.1, 1.4, 1.3], "kid": [1.0, 1.2, 1.1]}
    found = of(flat, ball)
    known = {one.name: one for one in found.figures}

    def said(**shares: float) -> list[str]:
        return list(sampling([replace(one, sampling_share=shares.get(one.figure)) for one in found.differences], known))

    assert said(fid=0.02, kid=0.72) == [
        "Of the variance of differences between seeds sampling alone gives: FID 2%, KID 72%; training the rest: more "
        "samples or sampling seeds would narrow KID; more training seeds the rest."
    ]
    assert said(kid=0.72)[0].endswith("more samples or sampling seeds would narrow them.")
    assert said(fid=0.02)[0].endswith("more samples hardly.")
    assert said() == []


def test_what_counts_once_what_failed_and_what_has_no_error_is_said() -> None:
    flat, ball = {"fid": [1.0, 1.2, 1.1]}, {"fid": [1.1, 1.4, 1.3]}
    found = of(flat | {"fid_best": flat["fid"]}, ball | {"fid_best": ball["fid"]})
    cells = [replace(one, unfinished={3: "failed", 4: "new"} if one.baseline else {}) for one in found.cells]
    text = verdict(replace(found, cells=cells), "poincare c=1")
    assert "FID, best guidance is FID in every run, and counts once." in text
    assert "Not finished yet, and not in this: seed 4 of poincare c=1." in text
    assert "Failed, and not in this: seed 3 of poincare c=1. Where hard seeds fail, the others flatter a cell." in text
    shares = of({"recall": [0.5, 0.75]}, {"recall": [0.75, 1.0]})
    assert verdict(shares, "poincare c=1")[1] == "recall: +0.250 ± 0.000, the same in every seed, which tells no error."


def test_choices_that_may_not_be_the_best_are_cautions() -> None:
    curve = {"split": "validation", "samples": 500, "points": [{"value": 1.0}, {"value": 1.5}], "best": 1.5}
    run = Finished.of({
        "metrics": {"fid_unguided": 0.82, "fid_best": 0.97}, "provenance": PROVENANCE, "curves": {"guidance": curve}
    })  # fmt: skip
    end, worse = compare([Cell({"geometry": "euclidean"}, FLAT, {0: run})]).cautions
    assert end.startswith("euclidean: seed 0 chose guidance 1.5, the last that was tried")
    assert worse.startswith("euclidean: FID, best guidance, is 0.97 on test images, and 0.82 with no guidance")
    above = curve | {"points": [{"value": 1.25}, {"value": 1.5}], "best": 1.25}
    run = Finished.of({"metrics": {"fid_best": 0.97}, "provenance": PROVENANCE, "curves": {"guidance": above}})
    [end] = compare([Cell({"geometry": "euclidean"}, FLAT, {0: run})]).cautions
    assert end.startswith("euclidean: seed 0 chose guidance 1.25, the first that was tried")


def test_seeds_that_a_figure_lacks_are_counted() -> None:
    flat = {seed: finished({"fid": 1.0 + seed, "kid": 2.0 * seed}) for seed in range(3)}
    ball = {0: finished({"fid": 1.0}), 1: finished({"fid": 2.5, "kid": 1.0}), 2: finished({"fid": 5.0, "kid": 1.0})}
    cells = [Cell({"geometry": "euclidean"}, FLAT, flat), Cell({"geometry": "poincare"}, BALL, ball)]
    _, fid, kid = verdict(compare(cells), "poincare c=1")
    assert " seeds, " not in fid
    assert " over 2 seeds, no difference shown" in kid


def test_the_footnote_counts_the_comparisons() -> None:
    [note] = footnotes(
        of(
            {"fid": [1.0, 2.0], "kid": [1.0, 2.0], "elbo": [1.0, 2.0]},
            {"fid": [1.0, 3.0], "kid": [1.0, 4.0], "elbo": [1.0, 5.0]},
        )
    )
    assert "(samples 2, first stage 1)" in note


def test_numbers_have_two_digits_of_their_margin() -> None:
    assert [decimals(size, 3) for size in (0.17, 0.017, 0.0999, 1.7, 17.0, 1e-9, None, 0.0)] == [2, 3, 3, 1, 0, 6, 3, 3]
    assert [p_words(p) for p in (0.0001, 0.0123, 0.5, 1.0)] == ["< .001", ".012", ".5", "1"]
