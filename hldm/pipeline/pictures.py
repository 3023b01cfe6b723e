"""The pictures of a run: grids of samples and reconstructions, and the latents."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from hldm.files import write_atomically
from hldm.geometry import Manifold, is_plane

MOST_COLUMNS = 32
"""Of a grid with a column per class."""


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


def save_latents(
    path: Path, manifold: Manifold, v: Tensor, colours: Tensor, nodes: Tensor, parents: Tensor | None, side: int = 720
) -> None:
    """The latents, a dot each. Of a known tree also the nodes, joined by geodesics from parent to child.

    Points of a plane are drawn where they are, hyperbolic ones in the Poincaré disk with its boundary. Of any others
    these are the first two principal components of their normal coordinates, in units of the components' root mean
    square; where there is curvature, in the disk as well, at radius tanh(√c·r/2).

    Args:
        v: (N, C, *positions) normal coordinates, on the CPU.
        colours: int64 (N,), each point's place in `PALETTE`.
        nodes: int64 (N,), see `Split`.
        parents: int64 (nodes,), see `Dataset`; drawn in a plane only. A node stands at the mean of its images, or,
            where it has none of its own, of those below it.
    """
    manifold, v = deepcopy(manifold).cpu().double(), v.double()
    c = float(manifold.curvatures().max()) if manifold.channels else 0.0
    canvas = Canvas(side, is_disk=c > 0)
    if not is_plane(manifold) or v.ndim > 2:
        plane = principal_components(v)
        canvas.dots(torch.tanh(c**0.5 * _norm(plane) / 2) * plane / _norm(plane) if c > 0 else plane / 4, colours)
        return canvas.save(path)
    z = manifold.from_tangent(v)
    unit = c**-0.5 if c > 0 else 1.1 * float(_norm(z).max())
    if parents is not None:
        means = torch.stack([
            manifold.frechet_mean(own, torch.ones(len(own), dtype=own.dtype))
            for own in (v[_rows_of(node, nodes, parents)] for node in range(len(parents)))
        ])  # fmt: skip
        points = manifold.from_tangent(means)
        times = torch.linspace(0, 1, 33, dtype=v.dtype).view(1, -1, 1)
        paths, _ = manifold.geodesic(points[parents].unsqueeze(1), points.unsqueeze(1), times)
        canvas.lines(paths / unit)
    canvas.dots(z / unit, colours)
    return canvas.save(path)


def _rows_of(node: int, nodes: Tensor, parents: Tensor) -> Tensor:
    """bool (N,): the images of a node, or those below it where it has none of its own."""
    rows, at = nodes == node, nodes
    while not rows.any() and not torch.equal(at, parents[at]):
        at = parents[at]
        rows = at == node
    return rows


class Canvas:
    """A white square with the unit disk in it. Drawn twice as large and reduced: smooth without a plotting library."""

    def __init__(self, side: int, *, is_disk: bool) -> None:
        self.side = side
        self.picture = Image.new("RGB", (2 * side, 2 * side), "white")
        self.draw = ImageDraw.Draw(self.picture)
        if is_disk:
            corners = self._pixels(torch.tensor([[-1.0, 1.0], [1.0, -1.0]]))
            self.draw.ellipse([tuple(corner) for corner in corners], outline=(60, 60, 60), width=5)

    def dots(self, points: Tensor, colours: Tensor) -> None:
        """points (N, 2) in [−1, 1], colours int64 (N,)."""
        for (left, top), colour in zip(self._pixels(points), colours.tolist(), strict=True):
            self.draw.ellipse((left - 6, top - 6, left + 6, top + 6), fill=PALETTE[colour % len(PALETTE)])

    def lines(self, paths: Tensor) -> None:
        """paths (N, T, 2) in [−1, 1]."""
        for path in paths:
            self.draw.line([tuple(pixel) for pixel in self._pixels(path)], fill=(120, 120, 120), width=3)

    def save(self, path: Path) -> None:
        """Write it as PNG."""
        picture = self.picture.resize((self.side, self.side), Image.Resampling.LANCZOS)
        write_atomically(path, lambda file: picture.save(file, format="PNG"))

    def _pixels(self, points: Tensor) -> list[list[float]]:
        return (self.picture.width * (0.5 + 0.47 * points * torch.tensor([1.0, -1.0]))).tolist()


def principal_components(v: Tensor) -> Tensor:
    """(N, …) → (N, 2), the first two, scaled to a root mean square norm of 1."""
    x = v.flatten(1)
    x = x - x.mean(0)
    plane = x @ torch.linalg.svd(x, full_matrices=False).Vh[:2].T
    return plane / plane.square().sum(1).mean().sqrt()


def _norm(points: Tensor) -> Tensor:
    return points.norm(dim=1, keepdim=True).clamp_min(1e-12)


def save_npz(path: Path, images: Tensor, labels: Tensor | None) -> None:
    """`arr_0` images uint8 (N, H, W, C) and `arr_1` labels int64 (N,): what the field's evaluation scripts read.

    Vectors are float32 (N, D). Without labels there is no `arr_1`.
    """
    rows = images.permute(0, 2, 3, 1).contiguous() if images.ndim == 4 else images
    arrays = [x.numpy() for x in (rows, labels) if x is not None]

    def write(file: Path) -> None:
        with file.open("wb") as stream:  # given a name, numpy would append a second ending to it
            np.savez_compressed(stream, *arrays)

    write_atomically(path, write)
