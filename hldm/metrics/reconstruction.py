"""How near reconstructions are to their originals: in pixels, in structure, and to a trained eye.

Legend: N images of C channels and H × W pixels.
"""

import torch
from torch import Tensor, nn

from hldm.images import to_unit

WINDOW = 11
"""Side of SSIM's Gaussian window, of standard deviation 1.5: Wang et al. (2004), section III.B."""


@torch.no_grad()
def reconstruction_metrics(
    originals: Tensor, rebuilt: Tensor, distance: nn.Module | None = None, *, batch_size: int = 500
) -> dict[str, float]:
    """Means over images of three distances between an image and its reconstruction.

    Args:
        originals: uint8 (N, C, H, W).
        rebuilt: uint8 (N, C, H, W).
        distance: LPIPS; None: it is not measured. Called with two batches in [0, 1], it gives their mean distance.
        batch_size: images at once.

    Returns:
        reconstruction_psnr: 10 log₁₀ (255²/MSE) in decibels, each image's own, > 0. An image that is given back
            exactly counts as one with a mean squared error of 1/12, what rounding to bytes costs: 58.9 dB.
        reconstruction_ssim: Wang et al. (2004), eq. 13, in [−1, 1], 1 for equal images; with sides of 11 or more.
        reconstruction_lpips: Zhang et al. (2018), ≥ 0, 0 for equal images; with `distance` only.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # takes seconds to import

    psnr, ssim, lpips = (torch.zeros((), dtype=torch.float64) for _ in range(3))
    for a, b in zip(originals.split(batch_size), rebuilt.split(batch_size), strict=True):
        error = (a.double() - b.double()).square().flatten(1).mean(1).clamp_min(1 / 12)
        psnr += (10 * (255**2 / error).log10()).sum().cpu()
        x, y = to_unit(a), to_unit(b)
        if min(x.shape[2:]) >= WINDOW:
            each = structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
            ssim += each.double().sum().cpu()
        if distance is not None:
            device = next((p.device for p in distance.parameters()), x.device)
            lpips += distance(x.to(device), y.to(device)).double().cpu() * len(x)
    n = len(originals)
    found = {"reconstruction_psnr": float(psnr / n)}
    if min(originals.shape[2:]) >= WINDOW:
        found["reconstruction_ssim"] = float(ssim / n)
    if distance is not None:
        found["reconstruction_lpips"] = float(lpips / n)
    return found
