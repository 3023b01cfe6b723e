"""Runs that share a first stage encode once; what does not fit is refused before work, and auto takes what fits."""

import dataclasses
import os
from functools import cache
from types import SimpleNamespace

import pytest
import torch

from hldm.config.compose import compose
from hldm.errors import Stopped, UserError
from hldm.pipeline import latent_cache
from hldm.pipeline.build import build_model
from hldm.pipeline.latent_cache import chosen_place, refuse_small_disk, training_latents
from hldm.run.identity import run_identity
from hldm.study.upkeep import waste
from hldm.training.latents import Anew, Form, InMemory, OnDisk
from tests.edited import edited
from tests.fake_data import noise_digits
from tests.pipeline.conftest import TINY

DATA = noise_digits(60)
LOG = SimpleNamespace(progress=lambda *said: None)
FORM = Form(rows=1000, latent_shape=(10,), parts=2, kept_as="float32", batch=100)


@cache
def base(is_ddpm):
    return compose([*TINY, "paths.outputs=/nowhere", *(["diffusion=ddpm"] if is_ddpm else [])])


def setting(outputs, *overrides):
    config = edited(
        base("diffusion=ddpm" in overrides),
        f"paths.outputs={outputs}",
        *(o for o in overrides if o != "diffusion=ddpm"),
    )
    model = build_model(config, DATA).eval().requires_grad_(False)
    return model, config


def found(outputs, *overrides, data=DATA):
    model, config = setting(outputs, *overrides)
    return training_latents(model, data, config, LOG)


def folders(outputs):
    return sorted(path.name for path in (outputs / "latents").glob("*"))


def moments(latents):
    chosen = torch.tensor([3, 59, 0, 17])
    return torch.cat([part.flatten(1) for part in latents.rows(chosen)], 1)


def test_runs_that_share_a_first_stage_encode_once(tmp_path, capsys):
    first = found(tmp_path, "training.latent_cache=disk")
    assert "encoding 60 images once" in capsys.readouterr().out
    assert isinstance(first, OnDisk)
    second = found(tmp_path, "training.latent_cache=auto", "diffusion=ddpm", "training.diffusion.learning_rate=1e-4")
    assert capsys.readouterr().out == ""
    assert isinstance(second, InMemory)  # it fits there
    in_memory = found(tmp_path, "training.latent_cache=ram")
    assert torch.equal(moments(first), moments(second))
    assert torch.equal(moments(first), moments(in_memory))
    off = found(tmp_path, "training.latent_cache=off")
    assert isinstance(off, Anew)
    torch.testing.assert_close(moments(off), moments(first))
    assert len(folders(tmp_path)) == 1


def test_another_first_stage_other_data_and_another_format_have_latents_of_their_own(tmp_path):
    others = dataclasses.replace(DATA, train=noise_digits(61).train)
    found(tmp_path, "training.latent_cache=disk")
    found(tmp_path, "training.latent_cache=disk", "seed=1")
    found(tmp_path, "training.latent_cache=disk", data=others)
    half = found(tmp_path, "training.latent_cache=disk", "training.latent_precision=float16")
    assert len(folders(tmp_path)) == 4
    in_memory = found(tmp_path, "training.latent_cache=ram", "training.latent_precision=float16")
    assert torch.equal(moments(half), moments(in_memory))


def test_where_latents_are_kept_is_no_part_of_identity_and_their_format_is(tmp_path):
    def name(*overrides):
        return run_identity(setting(tmp_path, *overrides)[1]).name

    places = {name(f"training.latent_cache={place}") for place in ("off", "ram", "disk", "auto")}
    assert places == {name()}
    assert name("training.latent_precision=float16") not in places


def test_auto_takes_what_fits():
    assert FORM.bytes == 80_000

    def place(used, memory, room):
        folder = None if used < FORM.rows else SimpleNamespace(glob=lambda pattern: [])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(latent_cache, "free_disk", lambda folder: room)
            return chosen_place(FORM, used, memory, folder)

    assert place(1000, 10**9, 10**9) == "disk"
    assert place(1000, 10**9, 80_001) == "ram"  # a disk that would be full
    assert place(1000, 100_000, 0) == "off"
    assert place(200, 10**9, 10**9) == "ram"
    assert place(200, 20_000, 10**9) == "off"


def test_a_small_disk_is_refused_before_a_first_stage_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(latent_cache, "free_disk", lambda folder: 50_000)
    model, config = setting(tmp_path, "training.latent_cache=disk")
    with pytest.raises(UserError, match=r"needs 94\.1 kB in .*50\.0 kB are free.*latent_precision=float16"):
        refuse_small_disk(model, DATA, config)
    with pytest.raises(UserError, match=r"needs 94\.1 kB"):
        training_latents(model, DATA, config, LOG)
    assert not list(tmp_path.glob("latents/*/*.npy"))
    model, config = setting(tmp_path, "training.latent_cache=disk", "training.latent_precision=float16")
    refuse_small_disk(model, DATA, config)
    model, config = setting(tmp_path)  # which keeps them in memory
    refuse_small_disk(model, DATA, config)


def test_too_little_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(latent_cache, "free_memory", lambda: 50_000)
    with pytest.raises(
        UserError, match=r"ram needs 94\.1 kB .* of 60 images, and 50\.0 kB are free.*latent_cache=auto"
    ):
        found(tmp_path, "training.latent_cache=ram")
    assert isinstance(found(tmp_path, "training.latent_cache=auto"), OnDisk)


def test_whoever_finds_another_process_at_work_waits_for_it(tmp_path, monkeypatch, capsys):
    model, config = setting(tmp_path, "training.latent_cache=disk")
    folder = latent_cache.folder_of(model, DATA, config)
    (folder / ".lease").mkdir(parents=True)
    (folder / ".lease" / "1.json").write_text("")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setattr("hldm.pipeline.first_stage.WAIT_IN_A_JOB", 0.0)
    with pytest.raises(Stopped, match="latents"):
        training_latents(model, DATA, config, LOG)
    assert "has encoded images" in capsys.readouterr().out
    os.rename(folder / ".lease" / "1.json", folder / ".lease" / "1.free")
    assert isinstance(training_latents(model, DATA, config, LOG), OnDisk)


def test_latents_of_a_first_stage_that_no_run_uses_are_waste(tmp_path):
    found(tmp_path, "training.latent_cache=disk")
    (wasted,) = waste([], tmp_path, [])
    assert wasted.path.parent == tmp_path / "latents"
    assert "no run uses" in wasted.why
