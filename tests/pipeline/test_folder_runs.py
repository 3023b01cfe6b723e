"""A whole run on a folder of one's own, which streams from the disk, and what it needs that is not there."""

import math
import re
from pathlib import Path

import pytest
import torch

from hldm.commands import evaluate, generate
from hldm.config.compose import compose
from hldm.config.pictures import Folder
from hldm.data import folder, scan
from hldm.data.streamed import StreamedSplit
from hldm.errors import UserError
from hldm.paths import CHECKOUT
from hldm.pipeline import run
from hldm.pipeline.build import build_dataset, build_model
from hldm.pipeline.samples import evaluate_samples
from hldm.pipeline.stopwatch import Stopwatch
from hldm.run.directory import RunDirectory
from hldm.run.identity import run_identity
from hldm.training import FirstStage
from tests.conftest import Invoke
from tests.data.test_lsun import database
from tests.data.test_lsun import pictures as lmdb_pictures
from tests.odd_pictures import classes, written
from tests.pipeline.conftest import TINY

SMALL = [setting for setting in TINY if not setting.startswith(("metrics.samples", "metrics.hierarchy"))]


def prepare(outputs: Path, path: Path, *typed: str) -> RunDirectory:
    config = compose([*SMALL, "dataset=folder", f"dataset.path={path}", f"paths.outputs={outputs}", *typed])
    return RunDirectory.create(outputs / run_identity(config).name, config)


def test_a_run_on_pictures_that_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "IN_MEMORY", 0)
    own = classes(tmp_path / "own", {"ants": 40, "bees": 30})
    written(own / "odd")
    typed = ["dataset.flips=true", "dataset.test_share=0.2", "hardware.readers=1", "metrics.samples=40"]
    directory = prepare(tmp_path, own, *typed, "metrics.memorisation=true", "geometry=poincare")
    dataset = build_dataset(directory.config)
    assert isinstance(dataset.train.plain, StreamedSplit)
    assert dataset.train.plain.readers == 1
    run(directory.path)
    metrics, made_with = directory.results["metrics"], directory.results["provenance"]
    assert metrics.keys() >= {"fid", "floor_fid", "reconstruction_psnr", "delta_rel", "memorisation_share"}
    assert all(math.isfinite(value) for value in metrics.values())
    assert [extractor["name"] for extractor in made_with["extractors"]] == ["pixels"]
    assert made_with["data"] == dataset.fingerprint
    assert evaluate.main([f"run={directory.path}"]) == 0
    generate.main([f"run={directory.path}", "label=2", "n=3", f"out={tmp_path}/drawn.png"])


def test_training_sees_the_same_batches_from_memory_and_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = classes(tmp_path / "own", {"ants": 40, "bees": 30})
    config = compose([*SMALL, "dataset=folder", f"dataset.path={own}", "dataset.test_share=0.2", "metrics.samples=20"])
    section = config.dataset
    assert isinstance(section, Folder)
    kept = folder(section, cache=tmp_path / "a")
    monkeypatch.setattr(scan, "IN_MEMORY", 0)
    streamed = folder(section, cache=tmp_path / "b", readers=1)
    model = build_model(config, kept)
    one, other = (FirstStage(model, data.train, seed=3, batch_size=16) for data in (kept, streamed))
    for step in (0, 1, 2, 9, 10, 3):  # a resumed run begins anywhere
        assert torch.equal(one.batch(step), other.batch(step))


def test_what_is_not_there_is_said_before_anything_is_trained(tmp_path: Path, invoke: Invoke) -> None:
    status, out, err = invoke("dataset=folder", "tracking=none")
    assert status != 0
    assert "dataset=folder needs a folder of pictures. Type dataset.path=<it>." in out + err
    own = classes(tmp_path / "own", {"ants": 90, "bees": 50}, side=2)
    _, out, err = invoke("dataset=folder", f"dataset.path={own}", "tracking=none")
    said = " ".join((out + err).split())
    assert "metrics.samples=1000 asks for more real images of a class than the training set has" in said
    assert (
        "batch_size=128 is more than the 120 images there are to train on. Try training.first_stage.batch_size=120"
        in said
    )
    with pytest.raises(UserError, match="look at grey pictures of 28 × 28"):
        compose(["dataset=folder", f"dataset.path={own}", "metrics=digits"])


def test_the_walk_of_the_readme_composes(tmp_path: Path) -> None:
    """Its five lines; the run itself is above."""
    own = classes(tmp_path / "birds", {"ants": 700, "bees": 700}, side=2)
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")  # type: ignore[operator]  # tests run in a checkout
    walk = re.search(r"Your own images.*?\n\n((?:    .*\n)+)", text)
    assert walk is not None
    lines = walk[1].split("\n")[:-1]
    assert len(lines) == 5
    trained = [line.split() for line in lines if "train.py" in line]
    for line in trained:
        one = [word.partition(",")[0] for word in line[2:] if word not in ("-m", "plan=true")]
        assert compose([word.replace("~/birds", str(own)) for word in one]).dataset == Folder(
            path=str(own), side=64 if "dataset.side=64" in line else 32
        )
    assert len(trained) == 3


def test_samples_of_scenes_are_held_against_training_images(tmp_path: Path) -> None:
    database(tmp_path / "lsun" / "tower_train_lmdb", lmdb_pictures(90))
    database(tmp_path / "lsun" / "tower_val_lmdb", lmdb_pictures(12, 200))
    typed = ["dataset=lsun", f"dataset.path={tmp_path}/lsun", "dataset.categories=[tower]", "dataset.side=32"]
    typed += ["dataset.validation_images=20", "metrics.samples=30"]
    config = compose([*SMALL, *typed, f"paths.outputs={tmp_path}"])
    dataset = build_dataset(config)
    found = evaluate_samples(build_model(config, dataset), dataset, None, config, [0], Stopwatch())
    assert found.provenance["reference"] == "lsun training images (35)"
    assert found.metrics["floor_fid"] > 0  # the floor is drawn from other images than those
    assert len(list((tmp_path / "references").iterdir())) == 1
    too_many = config.metrics.model_copy(update={"samples": 36})
    with pytest.raises(UserError, match=r"real images than there are for the floor, 35\. Try metrics\.samples=35"):
        build_dataset(config.model_copy(update={"metrics": too_many}))
