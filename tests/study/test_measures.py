"""Names in results.json, taken apart; and one table of what is better."""

import pytest

from hldm.run.summary import GROUPS
from hldm.study.measures import HEADLINES, MEASURES, Figure, figure, figures


@pytest.mark.parametrize(
    ("name", "expected", "heading"),
    [
        ("fid", Figure("fid", "fid"), "FID"),
        ("fid_best", Figure("fid_best", "fid", "", "best"), "FID, best guidance"),
        (
            "fid_unlabelled_unguided",
            Figure("fid_unlabelled_unguided", "fid", "unlabelled", "unguided"),
            "FID (unlabelled), no guidance",
        ),
        ("kid_best_steps", Figure("kid_best_steps", "kid", "", "best_steps"), "KID, best steps"),
        (
            "reconstruction_fid_unlabelled_drawn",
            Figure("reconstruction_fid_unlabelled_drawn", "reconstruction_fid", "unlabelled", "drawn"),
            "FID of reconstructions (unlabelled), from draws",
        ),
        ("kid_unlabelled", Figure("kid_unlabelled", "kid", "unlabelled"), "KID (unlabelled)"),
        ("reconstruction_fid", Figure("reconstruction_fid", "reconstruction_fid"), "FID of reconstructions"),
        (
            "reconstruction_fid_unlabelled",
            Figure("reconstruction_fid_unlabelled", "reconstruction_fid", "unlabelled"),
            "FID of reconstructions (unlabelled)",
        ),
    ],
)
def test_a_name_is_metric_extractor_and_place(name: str, expected: Figure, heading: str) -> None:
    assert figure(name, ["unlabelled"]) == expected
    assert expected.heading == heading


@pytest.mark.parametrize("name", ["floor_fid", "fid_seed_sd", "fid_bootstrap_sd", "fid_other", "best_guidance", "δ"])
def test_other_names_are_no_figures(name: str) -> None:
    assert figure(name, ["unlabelled"]) is None


def test_figures_are_ordered_by_metric_extractor_and_place() -> None:
    names = ["kid", "fid_unlabelled", "fid_best", "floor_fid", "fid", "elbo_kl", "fid_unguided"]
    assert [one.name for one in figures(names, ["unlabelled"])] == [
        "fid_unguided", "fid_best", "fid", "fid_unlabelled", "kid", "elbo_kl",
    ]  # fmt: skip


def test_verdicts_are_given_on_fid_everywhere_and_on_the_rest_where_the_run_stands() -> None:
    assert MEASURES.keys() >= HEADLINES
    headlines = {name for name in ("fid_best", "kid", "kid_best", "inception_score") if figure(name).is_headline}  # type: ignore[union-attr]  # they are
    assert headlines == {"fid_best", "kid"}


def test_the_summary_of_a_run_has_the_same_arrows() -> None:
    lines = {name: line.heading for group in GROUPS.values() for name, line in group.items() if name in MEASURES}
    assert lines
    for name, heading in lines.items():
        arrow = {"lower": "↓", "higher": "↑", "": ""}[MEASURES[name].better]
        assert [sign for sign in "↑↓" if sign in heading] == ([arrow] if arrow else []), name
