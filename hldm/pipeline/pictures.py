"""The pictures of a run: grids of samples and reconstructions."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from hldm.files import write_atomically
from hldm.geometry import Manifold


def image_grid(images: Tensor, columns: int, gap: int = 2) -> Image.Image:
    """uint8 images (N, C, H, W), C = 1 or 3, laid out row by row with a light gap between them."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    canvas = torch.full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), 96, dtype=torch.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + gap) + gap, (i % columns) * (width + gap) + gap
        canvas[:, top : top + height, left : left + width] = image
    array = canvas.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if channels == 1 else array)


def save_grid(path: Path, images: Tensor, columns: int, scale: int = 2) -> None:
    """Write a grid as PNG, each pixel `scale` pixels wide."""
    picture = image_grid(images.cpu(), columns)
    picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    write_atomically(path, lambda file: picture.save(file, format="PNG"))


PALETTE = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189),
    (140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207),
)  # fmt: skip


def save_latents(path: Path, manifold: Manifold, v: Tensor, labels: Tensor, side: int = 720) -> None:
    """The first two principal components of the latents' normal coordinates, a colour per class.

    With curvature they are drawn in the Poincaré disk, at radius tanh(√c·r/2) for r in units of the components' root
    mean square; flat latents as they are, the frame at four times the root mean square.

    Args:
        v: (N, C, h, w) on the CPU.
        labels: int64 (N,).
    """
    x = v.flatten(1).double()
    x = x - x.mean(0)
    components = torch.linalg.svd(x, full_matrices=False).Vh[:2]
    plane = x @ components.T
    plane = plane / plane.square().sum(1).mean().sqrt()
    c = float(manifold.curvatures().max()) if manifold.channels else 0.0
    if c > 0:
        radius = plane.norm(dim=1, keepdim=True).clamp_min(1e-12)
        plane = torch.tanh(c**0.5 * radius / 2) * plane / radius
    else:
        plane = plane / 4

    fine = 2 * side  # drawn twice as large and reduced: smooth dots without a plotting library
    picture = Image.new("RGB", (fine, fine), "white")
    draw = ImageDraw.Draw(picture)
    if c > 0:
        draw.ellipse((0.03 * fine, 0.03 * fine, 0.97 * fine, 0.97 * fine), outline=(60, 60, 60), width=5)
    for (a, b), label in zip(plane.tolist(), labels.tolist(), strict=True):
        left, top = fine * (0.5 + 0.47 * a), fine * (0.5 - 0.47 * b)
        draw.ellipse((left - 6, top - 6, left + 6, top + 6), fill=PALETTE[label % len(PALETTE)])
    picture = picture.resize((side, side), Image.Resampling.LANCZOS)
    write_atomically(path, lambda file: picture.save(file, format="PNG"))


def save_npz(path: Path, images: Tensor, labels: Tensor) -> None:
    """`arr_0` images uint8 (N, H, W, C) and `arr_1` labels int64 (N,): what the field's evaluation scripts read."""
    arrays = (images.permute(0, 2, 3, 1).contiguous().numpy(), labels.numpy())

    def write(file: Path) -> None:
        with file.open("wb") as stream:  # given a name, numpy would append a second ending to it
            np.savez_compressed(stream, *arrays)

    write_atomically(path, write)
