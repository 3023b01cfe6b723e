"""The schedule beside a published U-Net is the one that it is run on, or the command says what to type."""

import json
from pathlib import Path

import pytest

from hldm.config.compose import compose
from hldm.errors import UserError
from tests.published import described

STABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def words(folder: Path, scheduler: dict[str, object] | None, *more: str, vae: str = "AutoencoderKL") -> list[str]:
    sizes = {"in_channels": 4, "out_channels": 4}
    described(folder / "unet", _class_name="UNet2DModel", **sizes)
    described(folder / "vae", _class_name=vae, **({"vq_embed_dim": 4} if vae == "VQModel" else {}))
    if scheduler is not None:
        (folder / "scheduler").mkdir()
        (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    given = ["denoiser=published", f"denoiser.folder={folder}", "autoencoder=published", f"first_stage={folder}"]
    return [*given, "conditioning=none", "tracking=none", "dataset=cifar10", "geometry=euclidean", *more]


def test_another_schedule_and_scale_are_refused_with_what_to_type(tmp_path: Path) -> None:
    given = words(tmp_path, STABLE, "diffusion=ldm", "training.diffusion.steps=0")
    to_type = [
        "diffusion.process.beta_start=0.00085",
        "diffusion.process.beta_end=0.012",
        "diffusion.latent_scale=5.48998",
    ]
    with pytest.raises(UserError) as error:
        compose(given)
    said = " ".join(str(error.value).split())
    assert " ".join(to_type) in said
    compose([*given, *to_type])


def test_a_network_of_the_noise_is_not_read_as_one_of_v(tmp_path: Path) -> None:
    ours = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear"}
    given = words(tmp_path, ours, "diffusion=ddpm", vae="VQModel")
    with pytest.raises(UserError, match=r"Type diffusion\.process\.prediction=epsilon\."):
        compose(given)
    compose([*given, "diffusion.process.prediction=epsilon"])


@pytest.mark.parametrize(
    "content",
    [
        {"beta_schedule": "linear"},
        {**STABLE, "num_train_timesteps": 4000},
        {**STABLE, "prediction_type": "zz"},
        {**STABLE, "rescale_betas_zero_snr": True},
    ],
)
def test_a_schedule_that_is_not_here_is_refused(tmp_path: Path, content: dict[str, object]) -> None:
    given = words(tmp_path, content, "diffusion=ldm")
    with pytest.raises(UserError, match="not here"):
        compose(given)
    compose([*given, "diffusion=flow"])


@pytest.mark.parametrize("change", [{"beta_start": "x"}, {"beta_schedule": 5}, {"num_train_timesteps": True}])
def test_a_setting_that_makes_no_sense_is_not_offered_to_be_typed(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(UserError, match=rf"scheduler_config\.json {next(iter(change))} must be"):
        compose(words(tmp_path, {**STABLE, **change}, "diffusion=ldm"))


def test_a_folder_without_a_schedule_says_nothing(tmp_path: Path) -> None:
    compose(words(tmp_path, None, "diffusion=ldm", vae="VQModel"))


def test_a_damaged_schedule_is_said(tmp_path: Path) -> None:
    given = words(tmp_path, STABLE, "diffusion=ldm")
    (tmp_path / "scheduler" / "scheduler_config.json").write_text("{")
    with pytest.raises(UserError, match=r"scheduler_config\.json cannot be read"):
        compose(given)
