"""Features without weights: they tell blur, noise, colour and layout, and nothing else."""

import pytest
import torch
from torch import Generator, Tensor
from torchvision.transforms.functional import gaussian_blur

from hldm.config.compose import compose
from hldm.config.metrics import PixelFeatures as Section
from hldm.metrics import PixelFeatures, frechet_distance, outputs


def patterns(n: int, seed: int = 0) -> Tensor:
    """Smooth colours with fine stripes on them, uint8 (n, 3, 32, 32)."""
    generator = Generator().manual_seed(seed)
    places = torch.rand(n, 3, 4, 4, generator=generator) * torch.tensor([1, 0.7, 0.4]).view(3, 1, 1)
    smooth = torch.nn.functional.interpolate(places, 32, mode="bilinear")
    stripes = 0.2 * torch.rand(n, 1, 1, 1, generator=generator) * (torch.arange(32) % 2)
    return (255 * (0.8 * smooth + stripes)).byte()


@pytest.mark.parametrize(
    ("shape", "features"), [((3, 32, 32), 84), ((1, 28, 28), 24), ((3, 8, 8), 60), ((3, 21, 64), 72)]
)
def test_how_many_there_are(shape: tuple[int, ...], features: int) -> None:
    found, logits = PixelFeatures()(torch.zeros(2, *shape, dtype=torch.uint8))
    assert found.shape == (2, features)
    assert logits.shape == (2, 0)


def test_means_and_changes_are_what_they_are_called() -> None:
    image = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    image[..., ::2] = 255  # columns: mean 1/2, every pixel 1/2 from the mean of its block
    found, _ = PixelFeatures()(image)
    assert torch.allclose(found[:, :16], torch.full((1, 16), 0.5))
    assert torch.allclose(found[:, 16:], torch.full((1, 4), 8 * 0.5))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: gaussian_blur(x, [3, 3]),
        lambda x: (
            (x.int() + torch.randint(-20, 21, x.shape, generator=Generator().manual_seed(1))).clamp(0, 255).byte()
        ),
        lambda x: (x * 0.9).byte(),
        lambda x: x.flip(1),
    ],
    ids=["blurred", "noisy", "darker", "other colours"],
)
def test_what_is_spoilt_is_further_away(spoil: object) -> None:
    network = PixelFeatures()
    real, other = (outputs(network, patterns(400, seed))[0] for seed in (0, 1))
    spoilt = outputs(network, spoil(patterns(400, 1)))[0]  # type: ignore[operator]  # one of the functions above
    assert frechet_distance(spoilt, real) > 1.2 * frechet_distance(other, real)


def test_the_option_chooses_them() -> None:
    metrics = compose(["metrics=pixels"]).metrics
    assert [type(extractor) for extractor in metrics.extractors] == [Section]
    assert metrics.classifier is None
