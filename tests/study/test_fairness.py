"""How fair a comparison is, read from provenance and configuration: every check can fail, and says by what."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hldm.run.directory import RunDirectory
from hldm.study.fairness import Check, summary
from hldm.study.plan import Point
from hldm.study.rows import rows_of_runs
from hldm.study.whole import Study
from tests.study.made_runs import MACHINE, PROVENANCE, dressed, made, usual

GRID = "geometry=euclidean,poincare seed=0,1"


def checks(folder: Path) -> dict[str, Check]:
    rows, damaged = rows_of_runs(RunDirectory.find(str(folder)))
    assert not damaged
    return {check.what: check for check in Study.of(folder, rows).checks}


def test_a_fair_comparison_holds_in_everything(tmp_path: Path) -> None:
    made(tmp_path, GRID, dressed)
    found = checks(tmp_path / "main")
    assert {check.holds for check in found.values()} == {True}
    assert summary(list(found.values())) == "17 of 17 checks of fairness hold."
    facts = {what: check.facts for what, check in found.items()}
    assert facts["Numbers of parameters within 1%"] == "983,000 to 986,000, 0.31% apart"
    assert facts["Same batches in the same order for the same seed"] == "00000000; 11111111"
    assert facts["Same training: steps, batches, optimiser"].startswith(
        "first stage 310 steps of 128: learning_rate 0.002 schedule cosine"
    )
    assert facts["Each cell differs from its baseline in its geometry, or in one setting, alone"] == "geometry"
    assert facts["Choices were made on the same validation images"] == "guidance validation (n 1000)"
    assert facts["Same seeds in every cell, more than one"] == "0, 1"


@pytest.mark.parametrize(
    ("entry", "what", "fact"),
    [
        ({"data": "e" * 64}, "Same data for the same seed", "seed 1: dddddddd (1 run); eeeeeeee (1 run)"),
        ({"data_order": "5" * 64}, "Same batches in the same order for the same seed", "seed 1: 11111111 (1 run)"),
        ({"parameters": {"denoiser": 991_000}}, "Numbers of parameters within 1%", None),
        ({"parameters": {"denoiser": 1_010_000}}, "Numbers of parameters within 1%", "983,000 to 1,010,000"),
        ({"samples": 7}, "Same number of samples, drawn by one rule", "n 7"),
        ({"sampling_seeds": [0, 1]}, "Same number of samples, drawn by one rule", "sampling seeds [0, 1]"),
        ({"reference": {"data": "mnist", "split": "train"}}, "Same reference images", "split train (1 run)"),
        ({"extractors": PROVENANCE["extractors"][:1]}, "Same extractors", "digits aaaaaaaa (1 run)"),
        ({"classifier": {"name": "other", "sha256": "c"}}, "Same classifier", "other c (1 run)"),
        ({"commit": "2" * 40}, "Same code", "hldm 0.2.0 at 22222222 (1 run)"),
        ({"dirty": True}, "Same code", "hldm 0.2.0 at 11111111 changed (1 run)"),
        ({"versions": {"torch": "3"}}, "Same versions of libraries", "torch 3 (1 run)"),
        ({"machine": "NVIDIA H100"}, "Same class of hardware", "NVIDIA H100 (1 run)"),
        ({"threads": 4}, "Same number of threads", "4 (1 run)"),
    ],
)  # fmt: skip
def test_what_one_run_has_otherwise_is_said(
    entry: Mapping[str, Any], what: str, fact: str | None, tmp_path: Path
) -> None:
    def results(point: Point) -> Mapping[str, Any]:
        content = dressed(point)
        if point.config.seed == 1 and not point.config.has_flat_latents:
            content["provenance"] |= entry
        return content

    made(tmp_path, GRID, results)
    found = checks(tmp_path / "main")
    failed = {name for name, check in found.items() if not check.holds}
    assert failed == ({what} if fact else set())
    assert (fact or "") in found[what].facts


@pytest.mark.parametrize(
    ("typed", "what", "fact"),
    [
        ("geometry=euclidean,poincare diffusion.sampler.steps=8,10 seed=0,1",
         "Same sampler, steps and guidance", "steps 8"),
        ("geometry=euclidean,poincare training.diffusion.steps=8,10 seed=0,1",
         "Same training: steps, batches, optimiser", "diffusion 8 steps"),
        ("geometry=euclidean,poincare", "Same seeds in every cell, more than one", "0; one seed shows nothing"),
    ],
)  # fmt: skip
def test_settings_that_differ_are_said(typed: str, what: str, fact: str, tmp_path: Path) -> None:
    made(tmp_path, typed, dressed)
    found = checks(tmp_path / "main")
    assert found[what].holds is False
    assert fact in found[what].facts
    assert found["Each cell differs from its baseline in its geometry, or in one setting, alone"].holds


def test_a_cell_that_differs_from_its_baseline_in_two_settings(tmp_path: Path) -> None:
    made(tmp_path, "ablation=baseline,all seed=0,1", dressed)
    found = checks(tmp_path / "main")
    check = found["Each cell differs from its baseline in its geometry, or in one setting, alone"]
    assert check.holds is False
    assert "hyperbolic" in check.facts


def test_what_is_missing_or_not_said(tmp_path: Path) -> None:
    def results(point: Point) -> Mapping[str, Any] | None:
        return None if point.config.seed == 1 and not point.config.has_flat_latents else usual(point)

    made(tmp_path, GRID, results)
    found = checks(tmp_path / "main")
    assert found["All runs have finished"] == Check("All runs have finished", False, "3 finished, 1 failed")
    assert found["Same seeds in every cell, more than one"].facts == "0, 1; poincare c=1 lacks 1"
    assert "order" not in PROVENANCE
    assert found["Same batches in the same order for the same seed"].holds is None
    assert found["Numbers of parameters within 1%"].holds is None
    assert "commit" in MACHINE
    assert found["Same code"].facts == "hldm 0.2.0"
    text = summary(list(found.values()))
    assert text.startswith("13 of 17 checks of fairness hold. Not: All runs have finished; Same seeds")
    assert "Not known: Same batches in the same order for the same seed; Numbers of parameters" in text


def test_one_cell_is_compared_with_nothing(tmp_path: Path) -> None:
    made(tmp_path, "geometry=poincare seed=0,1", dressed)
    assert checks(tmp_path / "main") == {}
