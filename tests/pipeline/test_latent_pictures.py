"""Latents are drawn where they are: points of a plane in the disk, edges of a tree along geodesics."""

import numpy as np
import pytest
import torch
from PIL import Image

from hldm.geometry import Euclidean, FixedCurvature, PoincareBall
from hldm.pipeline.pictures import PALETTE, save_latents

SIDE = 400
BALL = PoincareBall(2, FixedCurvature(2.0))
PLACES = torch.tensor([[0.6, 0.0], [0.0, 0.6], [-0.5, -0.5]])
"""A point of each of three classes in the unit disk."""

PARENTS = torch.tensor([0, 0, 0])


def drawn(path, manifold, z, parents):
    labels = torch.arange(len(z))
    save_latents(path, manifold, manifold.to_tangent(z), labels, labels, parents, SIDE)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def pixel(pixels, x, y):
    return pixels[round(SIDE * (0.5 - 0.47 * y)), round(SIDE * (0.5 + 0.47 * x))]


@pytest.fixture
def tree(tmp_path):
    return drawn(tmp_path / "a.png", BALL, PLACES / 2**0.5, PARENTS)


def test_points_and_boundary(tree):
    for place, colour in zip(PLACES.tolist(), PALETTE, strict=False):
        assert abs(pixel(tree, *place) - colour).max() < 10
    for angle in np.arange(0, 6, 0.5):
        assert pixel(tree, 0.993 * np.cos(angle), 0.993 * np.sin(angle)).max() < 200
        assert pixel(tree, 1.05 * np.cos(angle), 1.05 * np.sin(angle)).min() == 255


def test_edges_are_geodesics(tree):
    ends = (PLACES[:2] / 2**0.5).double()
    on_geodesic = (BALL.geodesic(*ends, torch.tensor(0.5, dtype=torch.float64))[0] * 2**0.5).tolist()
    assert max(on_geodesic) < 0.25  # bent towards the centre
    assert pixel(tree, *on_geodesic).max() < 220
    assert pixel(tree, 0.3, 0.3).min() == 255
    assert pixel(tree, -0.25, 0.05).min() == 255  # no edge between the two children


def test_flat_trees_have_straight_edges_and_no_boundary(tmp_path):
    pixels = drawn(tmp_path / "a.png", Euclidean(2), PLACES, PARENTS)
    reach = 1.1 * float(PLACES.norm(dim=1).max())
    assert pixel(pixels, 0.3 / reach, 0.3 / reach).max() < 220
    assert (pixels[:4] == 255).all()


@pytest.mark.parametrize("positions", [(), (2, 2)])
@pytest.mark.parametrize("manifold", [Euclidean(4), PoincareBall(4, FixedCurvature(1.0))])
def test_more_dimensions_are_projected(tmp_path, manifold, positions):
    v = torch.randn(50, 4, *positions, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 10
    save_latents(tmp_path / "a.png", manifold, v, labels, labels, None, SIDE)
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert (np.ptp(pixels, axis=2) > 50).sum() > 300
