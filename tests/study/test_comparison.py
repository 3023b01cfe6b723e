"""Differences of cells from their baselines: over seeds, over sampling seeds, over images, along curves."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import stdev, variance
from typing import Any

import pytest

from hldm.config.compose import compose
from hldm.run.directory import RunDirectory
from hldm.study.cells import Cell, Finished, cells
from hldm.study.comparison import Comparison, compare
from hldm.study.plan import Point
from hldm.study.rows import rows_of_runs
from hldm.study.statistics import Interval, holm
from hldm.study.whole import Study
from tests.study.made_runs import PROVENANCE, made, usual

FLAT = compose(["geometry=euclidean", "tracking=none"])
BALL = compose(["geometry=poincare", "tracking=none"])
FLAT_SETTINGS, BALL_SETTINGS = {"geometry": "euclidean"}, {"geometry": "poincare"}


def finished(**results: Any) -> Finished:
    return Finished.of({"provenance": PROVENANCE, **results})


def pair(flat: Mapping[int, Finished], ball: Mapping[int, Finished]) -> Comparison:
    """A comparison of two cells, of which the first is the baseline."""
    return compare([Cell(FLAT_SETTINGS, FLAT, dict(flat)), Cell(BALL_SETTINGS, BALL, dict(ball))])


def of_metrics(*values: Mapping[str, float]) -> dict[int, Finished]:
    return {seed: finished(metrics=metrics) for seed, metrics in enumerate(values)}


def test_a_difference_by_hand() -> None:
    """Differences .1, .2, .3: mean .2, standard error .1/√3, p of t = 3.4641 with 2 degrees of freedom .0742."""
    found = pair(
        of_metrics({"fid": 1.0}, {"fid": 2.0}, {"fid": 4.0}), of_metrics({"fid": 1.1}, {"fid": 2.2}, {"fid": 4.3})
    )
    [one] = found.differences
    assert (one.cell, one.baseline, one.figure, one.seeds) == ("poincare c=1", "euclidean", "fid", (0, 1, 2))
    assert one.interval.mean == pytest.approx(0.2)
    assert one.interval.margin == pytest.approx(4.302653 * 0.1 / 3**0.5)
    assert one.p == one.adjusted == pytest.approx(0.0742, abs=1e-4)
    assert one.simultaneous == one.interval.margin
    assert one.comparisons == 1
    assert one.baseline_mean == pytest.approx(7 / 3)
    assert one.effect == pytest.approx(0.7 / 3)
    assert found.of("poincare c=1", "fid") == one
    assert found.of("euclidean", "fid") is None
    assert [cell.intervals["fid"].mean for cell in found.cells] == pytest.approx([7 / 3, 7.6 / 3])
    assert found.cells[1].values["fid"] == {0: 1.1, 1: 2.2, 2: 4.3}


def test_seeds_that_one_cell_lacks_are_in_its_mean_only() -> None:
    found = pair(
        {0: finished(metrics={"fid": 1.0}), 2: finished(metrics={"fid": 3.0})}, of_metrics({"fid": 2.0}, {"fid": 9.0})
    )
    assert found.differences[0].seeds == (0,)
    assert found.differences[0].interval == Interval(1.0, None)
    assert found.cells[1].intervals["fid"].mean == 5.5
    assert found.exclusions == []


def test_corrections_are_for_the_comparisons_of_a_group() -> None:
    """Two figures of samples and one of the first stage; what is the same in every seed was not tested."""
    flat = [{"fid": 0.0, "kid": 0.0, "recall": 0.5, "elbo": 0.0}] * 3
    ball = [{"fid": x, "kid": y, "recall": 0.5, "elbo": x} for x, y in ((1.0, 1.0), (1.1, 3.0), (1.3, -1.0))]
    found = pair(of_metrics(*flat), of_metrics(*ball))
    fid, kid, recall, elbo = found.differences
    assert (fid.adjusted, kid.adjusted) == pytest.approx(holm([fid.p or 0, kid.p or 0]))
    assert (fid.comparisons, kid.comparisons, elbo.comparisons) == (2, 2, 1)
    assert elbo.adjusted == elbo.p == fid.p
    assert (fid.simultaneous or 0) > (elbo.simultaneous or 0) == fid.interval.margin
    assert recall.is_same
    assert (recall.p, recall.adjusted, recall.comparisons) == (None, None, 0)


def test_what_sampling_gives_of_the_spread() -> None:
    """Paired by sampling seed where there are two, else it is not known: bootstraps of models do not add up to it."""

    def run(values: tuple[float, ...], **metrics: float) -> Finished:
        per_seed = {str(k): {"fid": value} for k, value in enumerate(values)}
        return finished(metrics={"fid": sum(values) / len(values), **metrics}, per_sampling_seed=per_seed)

    def share(flat: list[Finished], ball: list[Finished]) -> float | None:
        [one] = pair(dict(enumerate(flat)), dict(enumerate(ball))).differences
        return one.sampling_share

    # differences (.1, .3) and (.4, .8): means .2 and .6, variance .08; of the means by sampling .01 and .04
    flat = [run((1.0, 5.0)), run((2.0, 7.0))]
    assert share(flat, [run((1.1, 5.3)), run((2.4, 7.8))]) == pytest.approx((0.01 + 0.04) / 2 / 0.08)
    noisy = [run((1.0,), fid_bootstrap_sd=0.01), run((2.0,), fid_bootstrap_sd=0.01)]
    assert share(noisy, [run((1.2,), fid_bootstrap_sd=0.02), run((2.6,), fid_bootstrap_sd=0.02)]) is None
    assert share(noisy, [run((1.1, 1.3)), run((2.5, 2.7))]) is None


def test_bounds_are_paired_by_image_within_a_seed() -> None:
    def run(*values: float) -> Finished:
        return finished(metrics={"elbo_flow": sum(values) / len(values)}, per_image={"elbo_flow": list(values)})

    flat = {0: run(-100.0, -50.0, -10.0), 1: run(-90.0, -60.0, -20.0)}
    ball = {0: run(-105.0, -56.0, -17.0), 1: run(-95.0, -65.0, -25.0)}
    [one] = pair(flat, ball).differences
    assert one.interval.mean == -5.5
    # the choice of images is in the interval, and more seeds do not narrow it
    assert one.interval.sd == pytest.approx(stdev([-6.0, -5.0]))
    assert one.interval.error == pytest.approx((stdev([-6.0, -5.0]) ** 2 / 2 + stdev([-5, -5.5, -6]) ** 2 / 3) ** 0.5)
    assert one.needed is None
    assert one.images is not None
    assert one.images.within == pytest.approx({0: stdev([-5, -6, -7]) / 3**0.5, 1: 0.0})
    assert one.images.common == pytest.approx(stdev([-5, -5.5, -6]) / 3**0.5)
    assert one.images.images == 3
    [plain] = pair(of_metrics({"elbo_flow": 1.0}), of_metrics({"elbo_flow": 2.0})).differences
    assert plain.images is None


def test_two_figures_with_the_same_values_are_one_comparison() -> None:
    flat = [{"fid_best": x, "fid": x, "fid_unguided": 2 * x, "kid": x} for x in (1.0, 1.1, 1.3)]
    ball = [{"fid_best": x, "fid": x, "fid_unguided": y, "kid": x} for x, y in ((1.2, 2.9), (1.4, 3.1), (1.4, 3.0))]
    curves = {"guidance": {"split": "validation", "samples": 500, "points": [{"value": 1.0}, {"value": 1.5}]}}
    cells = (
        {seed: finished(metrics=of_seed, curves=curves) for seed, of_seed in enumerate(cell)} for cell in (flat, ball)
    )
    found = pair(*cells)
    twins = {one.figure: one.twin for one in found.differences}
    assert twins == {"fid_unguided": "", "fid_best": "fid", "fid": "", "kid": ""}
    best, fid = (found.of("poincare c=1", name) for name in ("fid_best", "fid"))
    assert best is not None
    assert fid is not None
    assert (best.adjusted, best.comparisons) == (fid.adjusted, 3)


def test_curves_by_other_extractors_have_no_difference() -> None:
    curves = {"guidance": {"split": "validation", "samples": 500, "points": [{"value": 1.0, "fid": 1.0}], "best": 1.0}}
    other = {**PROVENANCE, "extractors": [{"name": "digits", "sha256": "another"}]}
    flat, ball = finished(metrics={"fid": 1.0}, curves=curves), finished(metrics={"fid": 1.0}, curves=curves)
    assert [bool(one.points[0].differences) for one in pair({0: flat}, {0: ball}).curves] == [False, True]
    apart = finished(metrics={"fid": 1.0}, curves=curves, provenance=other)
    assert [bool(one.points[0].differences) for one in pair({0: flat}, {0: apart}).curves] == [False, False]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"samples": 1000}, "n is 1000, there 5000"),
        ({"extractors": [{"name": "inception", "sha256": "f"}]}, "extractor is inception f"),
        ({"reference": {"data": "mnist", "split": "validation", "images": 5000}}, "split validation"),
        ({"rule": "balanced"}, "rule of samples is balanced"),
        ({"rule": None}, "earlier versions"),
        ({"data": "x"}, "the data are others"),
    ],
)
def test_what_was_measured_otherwise_has_a_mean_and_no_difference(other: Mapping[str, Any], reason: str) -> None:
    metrics = {"metrics": {"fid": 1.0}}
    flat = {0: finished(**metrics), 1: finished(metrics={"fid": 2.0})}
    unlike = {seed: Finished.of({**metrics, "provenance": {**PROVENANCE, **other}}) for seed in (0, 1)}
    found = pair(flat, unlike)
    assert found.differences == []
    assert found.cells[1].intervals["fid"].mean == 1.0
    [sentence] = found.exclusions
    assert sentence.startswith("poincare c=1 is not compared with euclidean in FID: ")
    assert reason in sentence

    found = pair(flat, {0: finished(metrics={"fid": 7.0}), 1: unlike[1]})  # one of its seeds alone
    [one] = found.differences
    assert (one.seeds, one.interval.mean) == ((0,), 6.0)
    assert found.exclusions[0].startswith("poincare c=1, seed 1, is not compared with euclidean in FID: ")

    found = pair(flat | {2: Finished.of({**metrics, "provenance": {**PROVENANCE, **other}})}, dict(flat))
    if "data" not in other:  # which differ between seeds where each has a tree of its own
        assert found.cells[0].intervals["fid"].n == 2
        assert found.exclusions[0].startswith("euclidean, seed 2, is left out of its cell's FID: ")
    assert len(found.differences) == 1


def test_exclusions_name_all_figures_with_a_reason_once() -> None:
    names = ["fid_unguided", "fid", "kid", "recall", "reconstruction_fid"]
    metrics = dict.fromkeys(names, 1.0)
    unlike = Finished.of({"metrics": metrics | {"elbo": 1.0}, "provenance": {**PROVENANCE, "samples": 7}})
    found = pair(of_metrics(metrics | {"elbo": 1.0}), {0: unlike})
    assert found.exclusions == [
        "poincare c=1 is not compared with euclidean in FID, no guidance; FID; KID and 2 more figures: n is 7, there "
        "5000."
    ]
    assert [one.figure for one in found.differences] == ["elbo"]


def test_figures_can_be_chosen() -> None:
    flat, ball = (of_metrics({"fid": x, "kid_best": x, "density": x}) for x in (1.0, 2.0))
    found = [Cell(FLAT_SETTINGS, FLAT, flat), Cell(BALL_SETTINGS, BALL, ball)]
    assert [one.name for one in compare(found).figures] == ["fid"]
    assert [one.name for one in compare(found, lambda one: True).figures] == ["fid", "kid_best", "density"]


def curve(points: Mapping[float, float], best: float, **more: Any) -> dict[str, Any]:
    each = [{"value": value, "fid": fid, "note": "x"} for value, fid in points.items()]
    return {
        "guidance": {
            "split": "validation",
            "samples": 500,
            "points": each,
            "best": best,
            "best_unlabelled": 1.0,
            **more,
        }
    }


def test_curves_have_means_and_differences_at_every_value() -> None:
    flat = {
        0: finished(curves=curve({1.0: 3.0, 1.5: 1.0}, 1.5)),
        1: finished(curves=curve({1.0: 5.0, 1.5: 2.0}, 1.5)),
    }
    ball = {
        0: finished(curves=curve({1.0: 4.0, 1.5: 3.0}, 1.5)),
        1: finished(curves=curve({1.0: 8.0, 2.0: 1.0}, 2.0)),
        2: finished(curves=curve({1.0: 99.0}, 1.0, samples=100)),  # on fewer samples: left out
    }
    of_flat, of_ball = pair(flat, ball).curves
    assert (of_flat.cell, of_flat.setting, of_flat.split, of_flat.samples) == (
        "euclidean",
        "guidance",
        "validation",
        500,
    )
    assert of_flat.best == {"": {0: 1.5, 1: 1.5}, "unlabelled": {0: 1.0, 1: 1.0}}
    assert all(not point.differences for point in of_flat.points)
    assert of_ball.best[""] == {0: 1.5, 1: 2.0}
    means = {point.value: point.means["fid"].mean for point in of_ball.points}
    assert means == {1.0: 6.0, 1.5: 3.0, 2.0: 1.0}
    apart = {point.value: point.differences["fid"] for point in of_ball.points if point.differences}
    assert apart[1.0] == Interval.of([1.0, 3.0])
    assert apart[1.5] == Interval(2.0, None)
    assert 2.0 not in apart


def test_directories_and_plans_give_the_same_comparison_and_it_is_plain_data(tmp_path: Path) -> None:
    def results(point: Point) -> Mapping[str, Any] | None:
        return None if point.config.seed == 2 else usual(point)

    plan = made(tmp_path, "geometry=euclidean,poincare seed=0,1,2", results)
    of_plan = compare(cells(plan, lambda point: Finished.of_snapshot(point.run.snapshot())))
    of_runs = compare(Study.of(tmp_path, rows_of_runs(RunDirectory.find(str(tmp_path / "main")))[0]).cells)
    assert of_runs.differences == of_plan.differences
    assert of_runs.curves == of_plan.curves
    text = json.dumps(of_plan.as_json(), allow_nan=False)
    assert json.loads(text)["cells"][1]["unfinished"] == {"2": "failed"}
    assert of_plan.leading == "digits"
    assert len(of_plan.differences) == 15
    apart = [usual(point)["metrics"]["fid"] for point in plan if point.config.seed < 2]
    assert variance([apart[2] - apart[0], apart[3] - apart[1]]) == pytest.approx(
        (of_plan.of("poincare c=1", "fid").interval.sd or 0) ** 2  # type: ignore[union-attr]  # it is there
    )
