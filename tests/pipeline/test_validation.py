"""Looks at a stage that is trained show in the log and on the disk, keep the best weights, and disturb nothing."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from hldm.config.compose import compose
from hldm.config.fits import problems
from hldm.data import InMemorySplit
from hldm.errors import UserError
from hldm.pipeline import run
from hldm.pipeline.build import build_model
from hldm.pipeline.train import train_diffusion
from hldm.pipeline.validation import Looks
from hldm.run.identity import first_stage_identity, run_identity
from hldm.tracking import JsonLines
from tests.edited import edited
from tests.fake_data import noise_digits
from tests.pipeline.conftest import TINY, prepare

DATA = noise_digits(60)
VALIDATED = ["training.validate_every=4", "training.log_every=3"]


class Log:
    """Keeps what it is told."""

    def __init__(self):
        self.lines, self.pictures = SimpleNamespace(sync=lambda: None), []
        self.logged, self.begun, self.killed_after = {}, [], None

    def log(self, stage, step, figures):
        self.logged[step] = figures

    def image(self, name, path):
        self.pictures.append((name, path.name))

    def with_speed(self, stage, speed, figures):
        return figures

    def resume_at(self, stage, step):
        self.begun.append(step)

    def progress(self, stage, step, steps):
        if step == self.killed_after:
            raise KeyboardInterrupt


def trained(path, *overrides, data=DATA, log=None):
    config = compose([*TINY, f"paths.outputs={path}", *overrides])
    model, log = build_model(config, data), log or Log()
    train_diffusion(model, data, config, path / "run", log)
    return model, log


def validated(images=24):
    """The data with validation images."""
    split = InMemorySplit(DATA.train.images[:images], DATA.train.labels[:images])
    return type(DATA)("noise", DATA.image_shape, DATA.class_names, DATA.train, split, DATA.test)


def test_looks_show_and_change_nothing(tmp_path):
    plain, _ = trained(tmp_path / "a", data=validated())
    looked, log = trained(tmp_path / "b", *VALIDATED, data=validated())
    for name, value in plain.state_dict().items():
        assert torch.equal(value, looked.state_dict()[name]), name
    losses = {step: figures.get("validation_loss") for step, figures in log.logged.items()}
    assert [step for step, loss in losses.items() if loss is not None] == [4, 6]
    assert log.pictures == [("progress", "diffusion-000004.png"), ("progress", "diffusion-000006.png")]
    assert sorted(file.name for file in (tmp_path / "b" / "run" / "progress").iterdir()) == [n for _, n in log.pictures]
    best = json.loads((tmp_path / "b" / "run" / "checkpoints" / "best.json").read_text())
    assert best["validation_loss"] == min(losses[4], losses[6])
    assert losses[best["step"]] == best["validation_loss"]


def test_without_validation_images_there_are_samples_alone_and_nothing_is_best(tmp_path):
    _, log = trained(tmp_path, *VALIDATED)
    assert all("validation_loss" not in figures for figures in log.logged.values())
    assert log.pictures
    assert not (tmp_path / "run" / "checkpoints" / "best.safetensors").exists()
    with pytest.raises(UserError, match=r"keep=best chooses weights on validation images, and there are none"):
        trained(tmp_path, *VALIDATED, "training.keep=best")


def test_the_best_weights_are_kept_and_taken(tmp_path):
    """Of four looks, the second is the best one; what is done again after a stop finds the same one."""
    weights = torch.nn.Linear(1, 1, bias=False)
    values = {1: 3.0, 2: 1.0, 3: 2.0, 4: 1.0}
    now = []
    best = tmp_path / "best.safetensors"
    looks = Looks("stage", lambda: iter([torch.tensor(now[-1])]), None, weights,
                  folder=tmp_path, best=best, show=now.append)  # fmt: skip
    for step in (1, 2, 3, 2, 3, 4):
        now.append(values[step])
        torch.nn.init.constant_(weights.weight, step)
        assert looks(step) == {"validation_loss": values[step]}
    assert json.loads(best.with_suffix(".json").read_text()) == {"step": 2, "validation_loss": 1.0}
    looks.take_best()
    assert float(weights.weight.detach()) == 2.0


@pytest.mark.parametrize("name", ["best.json", "best.safetensors"])
@pytest.mark.parametrize("keep", ["best", "last"])
def test_damaged_best_weights_are_said_and_no_best_yet(name, keep, tmp_path, capsys):
    """A stage that ends with them begins again, since what was best before the resume state is not met once more."""
    how = [*VALIDATED, "training.validate_every=2", f"training.keep={keep}"]
    expected, _ = trained(tmp_path / "a", *how, data=validated())
    log = Log()
    log.killed_after = 5
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "b", *how, data=validated(), log=log)
    file = tmp_path / "b" / "run" / "checkpoints" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert "are damaged" not in capsys.readouterr().out
    found, log = trained(tmp_path / "b", *how, data=validated())
    assert "best.safetensors are damaged" in capsys.readouterr().out
    assert log.begun == [0 if keep == "best" else 4]
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in expected.state_dict().items())
    load_file(file.with_suffix(".safetensors"))
    assert "validation_loss" in json.loads(file.with_suffix(".json").read_text())


def test_best_weights_that_are_sound_are_gone_on_from(tmp_path):
    def looks(value):
        return Looks("stage", lambda: iter([torch.tensor(value)]), None, torch.nn.Linear(1, 1),
                     folder=tmp_path, best=tmp_path / "best.safetensors", show=print)  # fmt: skip

    looks(1.0)(1)
    again = looks(2.0)
    again.begin(tmp_path / "resume.pt", keeps_best=True)
    again(2)
    assert json.loads((tmp_path / "best.json").read_text())["step"] == 1


def test_looks_are_no_part_of_identity_unless_they_choose(tmp_path):
    base = compose([f"paths.outputs={tmp_path}"])

    def names(*overrides):
        config = edited(base, *overrides)
        return run_identity(config).digest, first_stage_identity(config).digest

    assert names(*VALIDATED) == names()
    chosen = names(*VALIDATED, "training.keep=best")
    assert not set(chosen) & {*names(), *names("training.validate_every=5", "training.keep=best")}
    (problem,) = problems(edited(base, "training.keep=best"))
    assert "no looks. Type training.validate_every=500" in problem
    assert not list(problems(edited(base, *VALIDATED, "training.keep=best")))


def test_a_whole_run_at_size(tmp_path):
    """bfloat16, batches in pieces, blocks computed again, latents encoded in each step, looks, the best weights."""
    how = ["training.precision=bfloat16", "training.microbatch=6", "hardware.recompute=true"]
    where = ["training.latent_cache=off", "training.keep=best", "dataset.validation_images=40"]
    directory = prepare(tmp_path, *VALIDATED, *how, *where)
    results = run(directory.path)
    assert all(torch.tensor(value).isfinite() for value in results["metrics"].values())
    records = JsonLines(directory.path / "metrics.jsonl").records()
    for stage in ("first_stage", "diffusion"):
        looked = [record["step"] for record in records if record["stage"] == stage and "validation_loss" in record]
        assert looked == [4, 6]
    saved = directory.path / "checkpoints"
    model, best = load_file(saved / "model.safetensors"), load_file(saved / "best.safetensors")
    assert model.keys() == best.keys()
    assert all(torch.equal(value, best[name]) for name, value in model.items())
    (stage,) = (tmp_path / "first_stages").iterdir()
    first = load_file(stage / "best.safetensors")
    assert all(torch.equal(value, model[f"autoencoder.{name}"]) for name, value in first.items())
    assert len(list(stage.glob("progress/*.png"))) == len(list(directory.path.glob("progress/*.png"))) == 2
