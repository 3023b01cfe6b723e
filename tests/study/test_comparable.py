"""Figures that were measured in different ways are not compared, and the reason is said."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from hldm.config.compose import compose
from hldm.study.cells import Finished
from hldm.study.comparable import cautions, data_difference, difference, is_unknown, terms, usual
from hldm.study.measures import figure
from tests.study.made_runs import EXTRACTORS, PROVENANCE

configuration = cache(lambda typed: compose(["tracking=none", *typed.split()]))

CURVE = {"split": "validation", "samples": 500, "points": [{"value": 1.0}, {"value": 1.5}]}


def of(name: str, provenance: Mapping[str, Any] = PROVENANCE, typed: str = "", **results: Any) -> Any:
    one = figure(name, ["unlabelled"])
    assert one is not None
    run = Finished.of({"provenance": {**provenance}, "curves": {"guidance": CURVE}, **results})
    return terms(one, run, configuration(typed))


def test_the_same_protocol_compares() -> None:
    for name in ("fid", "fid_unlabelled_best", "label_accuracy", "reconstruction_fid", "elbo", "elbo_flow"):
        assert difference(of(name), of(name)) is None
        assert not is_unknown(of(name))


@pytest.mark.parametrize(
    ("name", "other", "reason"),
    [
        ("fid", {"samples": 1000}, "n is 1000, there 5000"),
        ("kid", {"rule": "balanced classes"}, "rule of samples is balanced classes"),
        ("fid", {"reference": {"data": "mnist", "split": "validation", "images": 5000}}, "split validation, images"),
        ("fid", {"extractors": EXTRACTORS[::-1]}, "extractor is unlabelled bbbbbbbb, there digits aaaaaaaa"),
        ("fid_unlabelled", {"extractors": [EXTRACTORS[0], {"name": "unlabelled", "sha256": "c" * 64}]}, "cccccccc"),
        ("label_accuracy", {"classifier": {"name": "digits", "sha256": "e"}}, "classifier is digits e"),
        ("reconstruction_fid", {"samples": 7}, "n is 7"),
        ("fid", {"samples": 7, "rule": "x"}, "n is 7, there 5000; rule of samples is x"),
        ("kid", {"kid": "others"}, "pairs of KID is others, there as they are, in results of earlier versions"),
        ("fid", {"rule": None}, "do not say rule of samples, as those of earlier versions"),
        ("fid", {"extractors": "digits", "reference": {}}, "do not say reference and extractor"),
        ("fid_unlabelled", {"extractors": EXTRACTORS[:1]}, "do not say extractor"),
    ],
)
def test_another_protocol_does_not_compare(name: str, other: Mapping[str, Any], reason: str) -> None:
    here = of(name, {**PROVENANCE, **other})
    assert reason in (difference(of(name), here) or "")
    assert difference(here, of(name)) is not None


def test_what_a_figure_does_not_rest_on_does_not_matter() -> None:
    for name in ("elbo", "elbo_flow", "reconstruction_mse"):
        assert difference(of(name), of(name, {"data": "x"})) is None
    assert difference(of("label_accuracy"), of("label_accuracy", {**PROVENANCE, "extractors": []})) is None
    assert difference(of("fid"), of("fid", {**PROVENANCE, "threads": 4})) is None


def test_results_of_earlier_versions_compare_with_nothing_not_even_each_other() -> None:
    earlier = {"samples": 5000, "reference": "mnist test images (10000)", "extractor": EXTRACTORS[0]}
    reason = difference(of("fid", earlier), of("fid", earlier))
    assert reason == "its results do not say rule of samples and extractor, as those of earlier versions"
    assert "of the baseline do not say" in (difference(of("fid", earlier), of("fid")) or "")


def test_the_best_guidance_is_the_best_of_the_same_scales() -> None:
    finer = {"guidance": {**CURVE, "points": [{"value": 1.0}, {"value": 1.25}]}}
    assert "curve of guidance is" in (difference(of("fid_best"), of("fid_best", curves=finer)) or "")
    assert difference(of("fid"), of("fid", curves=finer)) is None
    assert "do not say curve of guidance" in (difference(of("fid_best"), of("fid_best", curves={})) or "")


def test_bounds_rest_on_their_images() -> None:
    some = {"per_image": {"elbo_flow": [1.0, 2.0]}}
    assert difference(of("elbo_flow", **some), of("elbo_flow", per_image={"elbo_flow": [1.0] * 3})) is not None
    assert "solver" in (difference(of("elbo_flow", **some), of("elbo_flow", **some, typed="metrics.likelihood_images=2 "
                        "metrics.likelihood_steps=4")) or "")  # fmt: skip
    assert "there 5000" in (difference(of("elbo"), of("elbo", typed="metrics.first_stage_images=100")) or "")


def test_pairs_saw_the_same_data() -> None:
    one, other, unknown = (Finished({}, {"data": data} if data else {}) for data in ("a", "b", ""))
    assert data_difference(one, one) is None
    assert data_difference(one, other) == "the data are others"
    assert "earlier versions" in (data_difference(one, unknown) or "")


def test_the_usual_terms_are_the_most_frequent_known_ones() -> None:
    known, other, unknown = of("fid"), of("fid", {**PROVENANCE, "samples": 7}), of("fid", {})
    assert usual([unknown, unknown, other, known, known]) == known
    assert usual([other, known]) == other
    assert usual([unknown]) == unknown
    assert usual([]) is None


def test_versions_threads_and_machines_are_cautions() -> None:
    others = [{"versions": {"torch": "2.13"}}, {"threads": 4}, {"machine": "aarch64"}, {"hldm": "0.1"}]
    runs = [Finished({}, {**PROVENANCE, **other}) for other in ({}, {}, *others)]
    found = cautions(runs)
    assert "Not all runs have the same torch: 2.14.1 (5 runs), 2.13 (1 run)." in found
    assert len(found) == 4
    assert cautions(runs[:2]) == []
    assert cautions([Finished({}, {**PROVENANCE, "threads": n}) for n in range(9)])[0].endswith("and 5 more.")
