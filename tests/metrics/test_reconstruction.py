"""PSNR, SSIM and LPIPS of reconstructions: closed forms and torchmetrics' own results."""

import pytest
import torch
from torch import Generator, Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from hldm.metrics import reconstruction_metrics


def images(n: int, side: int = 16, channels: int = 1, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, channels, side, side), generator=Generator().manual_seed(seed), dtype=torch.uint8)


def noisy(x: Tensor, seed: int = 1) -> Tensor:
    change = torch.randint(-20, 21, x.shape, generator=Generator().manual_seed(seed))
    return (x.int() + change).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_they_are_torchmetrics_image_by_image(channels: int) -> None:
    x = images(7, channels=channels)
    y = noisy(x)
    found = reconstruction_metrics(x, y, batch_size=3)
    psnr = [float(peak_signal_noise_ratio(b / 255, a / 255, data_range=1.0)) for a, b in zip(x, y, strict=True)]
    ssim = [
        float(structural_similarity_index_measure(b[None] / 255, a[None] / 255, data_range=1.0))
        for a, b in zip(x, y, strict=True)
    ]
    assert found["reconstruction_psnr"] == pytest.approx(sum(psnr) / 7, rel=1e-5)
    assert found["reconstruction_ssim"] == pytest.approx(sum(ssim) / 7, rel=1e-4)
    assert set(found) == {"reconstruction_psnr", "reconstruction_ssim"}


def test_known_values() -> None:
    black, grey = torch.zeros(2, 2, 1, 12, 12, dtype=torch.uint8)
    same = reconstruction_metrics(black, black)
    assert same["reconstruction_psnr"] == pytest.approx(58.92, abs=0.01)
    assert same["reconstruction_ssim"] == pytest.approx(1)
    # a constant error of 51 = 255/5: PSNR = 20 log₁₀ 5; SSIM of constants is (2μν + C₁)/(μ² + ν² + C₁)
    off = reconstruction_metrics(black, grey + 51)
    assert off["reconstruction_psnr"] == pytest.approx(13.979, abs=1e-3)
    assert off["reconstruction_ssim"] == pytest.approx(1e-4 / (0.2**2 + 1e-4), rel=1e-2)
    # the mean over images of their own PSNR, not that of the mean error
    assert reconstruction_metrics(torch.cat([black, black]), torch.cat([black, grey + 51]))[
        "reconstruction_psnr"
    ] == pytest.approx((58.92 + 13.979) / 2, abs=0.01)


def test_small_pictures_have_no_ssim() -> None:
    x = images(3, side=10)
    assert set(reconstruction_metrics(x, noisy(x))) == {"reconstruction_psnr"}


def test_a_distance_is_a_mean_over_images() -> None:
    class Distance(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return (x - y).abs().mean()

    x = images(5)
    y = noisy(x)
    found = reconstruction_metrics(x, y, Distance(), batch_size=2)
    assert found["reconstruction_lpips"] == pytest.approx(((x.double() - y.double()).abs() / 255).mean().item())
