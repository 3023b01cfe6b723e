"""What a run gives to its tracker: labels to group by, its first stage, samples one by one, every final metric."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hldm.config.compose import compose
from hldm.pipeline import log, run
from hldm.pipeline.log import run_log
from hldm.run.directory import RunDirectory
from hldm.tracking import FirstStageRun, NoTracker
from tests.pipeline.conftest import prepare


class Recording(NoTracker):
    """A tracker that keeps what it is given."""

    def __init__(self) -> None:
        self.started: dict[str, Any] = {}
        self.stages: list[FirstStageRun] = []
        self.tables: dict[str, tuple[Sequence[str], Sequence[Sequence[Any]]]] = {}
        self.final: dict[str, Any] = {}

    def start(self, *given: Any, group: str, job_type: str) -> None:
        names = ("directory", "run_id", "config", "labels", "provenance")
        self.started = dict(zip(names, given, strict=True)) | {"group": group, "job_type": job_type}

    def first_stage(self, stage: FirstStageRun) -> None:
        self.stages.append(stage)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.tables[name] = (columns, rows)

    def summary(self, metrics: Mapping[str, Any]) -> None:
        self.final |= metrics


def tracked(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> tuple[Recording, dict[str, Any]]:
    tracker = Recording()
    monkeypatch.setattr(log, "build", lambda section: tracker)
    return tracker, run(directory.path)


def test_a_run_says_what_it_is_and_what_it_stands_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = prepare(tmp_path, "geometry=poincare", "curvature=0.1", "seed=3", "study=balls")
    tracker, results = tracked(directory, monkeypatch)

    assert tracker.started["labels"] == {"geometry": "poincare", "curvature": 0.1, "seed": 3}
    assert (tracker.started["group"], tracker.started["job_type"]) == ("balls", "train")
    assert tracker.started["provenance"].keys() == {"hldm", "commit", "dirty", "command"}

    [stage] = tracker.stages
    [folder] = (tmp_path / "first_stages").iterdir()
    assert stage.directory == folder
    assert stage.labels == tracker.started["labels"]
    assert stage.group == "balls"
    assert "diffusion" not in stage.config["training"]
    assert {"autoencoder", "dataset", "geometry"} <= stage.config.keys()
    assert "denoiser" not in stage.config

    columns, rows = tracker.tables["samples_table"]
    assert columns == ["geometry", "curvature", "seed", "number", "label", "sample"]
    assert [row[:5] for row in rows] == [["poincare", 0.1, 3, i, str(i % 10)] for i in range(20)]
    assert {(row[5].dtype, row[5].shape) for row in rows} == {(np.dtype(np.uint8), (28, 28))}

    assert tracker.final == {f"final/{name}": value for name, value in results["metrics"].items()}

    again = prepare(tmp_path, "geometry=poincare", "curvature=0.1", "seed=3", "study=balls", "metrics.samples=40")
    twin, _ = tracked(again, monkeypatch)  # which takes the trained weights
    assert [one.directory for one in twin.stages] == [folder]
    assert twin.stages[0].digest == stage.digest


LABELS = {
    "geometry=euclidean curvature=0.5": (0.0, 0.0),
    "geometry=euclidean conditioning.hyperbolic=true curvature=0.5": (0.5, 0.0),
    "geometry=poincare curvature=0.5": (0.5, 0.5),
    "geometry=poincare curvature=learnable": ("learnable", "learnable"),
}
"""Settings → the curvature by which a dashboard groups the run, and its first stage."""


@pytest.mark.parametrize(("typed", "labels"), LABELS.items())
def test_labels_are_those_of_the_identity(
    typed: str, labels: tuple[float | str, float | str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flat latents have no curvature; where labels are embedded on balls the run has one, and its first stage none."""
    config = compose(typed.split())
    tracker = Recording()
    monkeypatch.setattr(log, "build", lambda section: tracker)
    (weights := tmp_path / "weights").write_bytes(b"0")
    with run_log(RunDirectory(tmp_path), config) as own:
        own.first_stage(tmp_path, weights, config)
    given = tracker.started["labels"]["curvature"], tracker.stages[0].labels["curvature"]
    assert given == labels


def test_a_run_that_fails_has_no_final_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hldm.pipeline.train.train_first_stage", lambda *_: 1 / 0)
    tracker = Recording()
    monkeypatch.setattr(log, "build", lambda section: tracker)
    with pytest.raises(ZeroDivisionError):
        run(prepare(tmp_path, "seed=8").path)
    assert (tracker.final, tracker.tables, tracker.stages) == ({}, {}, [])
