"""A run that surely cannot fit is refused; whatever could fit is not."""

import pytest

from hldm.config.autoencoder import Published
from hldm.config.compose import compose
from hldm.errors import UserError
from hldm.study.memory import needs, refuse_more_than, usual
from tests.conftest import Invoke

GIB = 2**30


def test_the_default_fits_anywhere() -> None:
    refuse_more_than(GIB // 4, compose([]))
    for overrides in (["autoencoder=mlp", "diffusion=none", "training=pvae", "latent=global"], ["latent=map_global"]):
        refuse_more_than(GIB, compose(overrides))


def test_the_bound_is_below_what_the_default_takes() -> None:
    """Measured: 830 MiB for a step of the denoiser on 1,000 images, on one thread of an x86 core."""
    found = {key: least for key, _, least, _ in needs(compose(["training.diffusion.batch_size=1000"]))}
    assert 100 * 2**20 < found["training.diffusion.batch_size"] < 830 * 2**20


@pytest.mark.parametrize(
    ("typed", "setting"),
    [
        ("training.first_stage.batch_size=50000", "training.first_stage.batch_size"),
        ("training.diffusion.batch_size=50000", "training.diffusion.batch_size"),
        ("denoiser.block_channels=[16000000,16000000]", "denoiser.block_channels"),
        ("autoencoder.block_channels=[800000000,800000000]", "autoencoder.block_channels"),
        ("autoencoder.padded_side=32768", "training.first_stage.batch_size"),
        (
            "training.microbatch=100 training.first_stage.batch_size=50000 autoencoder.padded_side=4096",
            "microbatch=100",
        ),
        ("latent=global denoiser=mlp denoiser.width=1000000", "denoiser.width=3096 or less"),
        ("latent=global denoiser=cross_attention denoiser.blocks=1000000000", "denoiser.blocks"),
        ("latent=map_global autoencoder.style_channels=1000000000000", "autoencoder.style_channels"),
        ("latent=map_global autoencoder.feature_channels=1000000000000", "autoencoder.feature_channels"),
        ("autoencoder.latent_channels=1000000000", "autoencoder.latent_channels"),
        ("autoencoder=vq_f4 autoencoder.codebook_size=1000000000000", "autoencoder.codebook_size"),
        ("autoencoder=mlp latent=global denoiser=mlp autoencoder.hidden=1000000000", "autoencoder.hidden"),
        ("conditioning=text conditioning.channels=1000000", "conditioning.channels"),
        ("conditioning=text conditioning.layers=1000000000", "conditioning.layers"),
        ("denoiser.layers_per_block=1000000000", "denoiser.block_channels or denoiser.layers_per_block smaller"),
    ],
)
def test_what_cannot_fit_is_refused_with_what_to_type(typed: str, setting: str) -> None:
    with pytest.raises(UserError, match=setting):
        refuse_more_than(2 * GIB, compose(typed.split()))


def test_one_setting_is_blamed_for_what_it_makes_too_large() -> None:
    with pytest.raises(UserError) as error:
        refuse_more_than(2 * GIB, compose(["latent=global", "denoiser=mlp", "denoiser.width=1000000"]))
    assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    "way", ["training.microbatch=100", "hardware.recompute=true training.precision=bfloat16"], ids=str
)
def test_what_saves_memory_counts(way: str) -> None:
    large = ["training.first_stage.batch_size=50000"]
    with pytest.raises(UserError):
        refuse_more_than(GIB, compose(large))
    refuse_more_than(GIB, compose([*large, *way.split()]))


def test_what_no_gpu_can_hold_is_refused_wherever_it_works() -> None:
    refuse_more_than(None, compose(["training.first_stage.batch_size=50000"]))
    with pytest.raises(UserError, match="no GPU has that"):
        refuse_more_than(None, compose(["denoiser.block_channels=[1600000000]", "denoiser.head_channels=16"]))


@pytest.mark.parametrize(
    "content",
    [
        {"block_out_channels": [10**9]},
        {"block_out_channels": [64], "layers_per_block": 10**9},
        {"block_out_channels": [64], "num_vq_embeddings": 10**12, "latent_channels": 3},
    ],
    ids=lambda content: str(list(content)[-1]),
)
def test_published_weights_of_sizes_that_nothing_can_hold(content: dict[str, object]) -> None:
    kinds = {"down_block_types": ["Down"], "up_block_types": ["Up"], "_class_name": "VQModel"}
    config = compose([])
    section = Published(architecture={**kinds, **content})
    with pytest.raises(UserError, match="first_stage=weights"):
        refuse_more_than(GIB, config.model_copy(update={"autoencoder": section, "first_stage": "weights"}))


def test_the_advice_fits() -> None:
    with pytest.raises(UserError) as error:
        refuse_more_than(GIB, compose(["training.diffusion.batch_size=50000"]))
    advice = next(word for word in str(error.value).split() if word.startswith("training.diffusion.batch_size="))
    assert "Type" in str(error.value)
    typed = str(error.value).partition("Type ")[2].split()[0]
    assert typed != advice
    refuse_more_than(GIB, compose([typed]))


def test_it_is_said_before_any_work(invoke: Invoke) -> None:
    status, _, err = invoke("denoiser.block_channels=[1600000000,1600000000]", "denoiser.head_channels=16")
    assert status == 2
    assert "Traceback" not in err
    assert "denoiser.block_channels or denoiser.layers_per_block smaller" in " ".join(err.split())


def test_what_a_run_usually_takes() -> None:
    """Finished runs of the default had a peak of 1.3 to 1.7 GiB; what was measured counts where there is any."""
    default, large = compose([]), compose(["training.diffusion.batch_size=4000"])
    assert 1.2 * GIB < usual([default], []) < 1.8 * GIB
    assert usual([default, large], []) > usual([default], []) + GIB
    assert usual([large], [1500, 1600]) == 1600 * 2**20
