"""What a latent is made of: its parts lie where the manifold has them, and each has a scale of its own."""

import pytest
import torch

from hldm.config.autoencoder import Layout
from hldm.geometry import Euclidean, FixedCurvature, PoincareBall, ProductManifold
from hldm.layout import LatentLayout

BALL = PoincareBall(4, FixedCurvature(0.8))
POINT = PoincareBall(3, FixedCurvature(0.3))
LAYOUTS = {
    "map": LatentLayout.of_map(BALL, (2, 3)),
    "point": LatentLayout.of_point(POINT),
    "both": LatentLayout.of_both(ProductManifold([Euclidean(1), PoincareBall(3, FixedCurvature(0.8))]), (2, 3), POINT),
}


def latents(name, count=5):
    return torch.randn(count, *LAYOUTS[name].shape, generator=torch.Generator().manual_seed(0))


def test_shapes():
    assert {name: layout.kind for name, layout in LAYOUTS.items()} == {
        "map": Layout.MAP,
        "point": Layout.POINT,
        "both": Layout.BOTH,
    }
    assert [layout.shape for layout in LAYOUTS.values()] == [(4, 2, 3), (3,), (27,)]
    assert [layout.dimension for layout in LAYOUTS.values()] == [24, 3, 27]
    assert [layout.sizes for layout in LAYOUTS.values()] == [(4,), (3,), (24, 3)]
    assert [part.kind for part in LAYOUTS["both"].parts] == [Layout.MAP, Layout.POINT]
    assert [part.shape for part in LAYOUTS["both"].parts] == [(4, 2, 3), (3,)]
    for name in ("map", "point"):
        assert LAYOUTS[name].parts == (LAYOUTS[name],)


def test_both_are_packed_and_unpacked():
    layout, v = LAYOUTS["both"], latents("both")
    of_map, of_point = layout.unpack(v)
    assert (of_map.shape[1:], of_point.shape[1:]) == tuple(part.shape for part in layout.parts)
    assert torch.equal(layout.pack(of_map, of_point), v)


@pytest.mark.parametrize("name", LAYOUTS)
def test_factors_are_the_parts_and_their_distances_add_up(name):
    layout, (a, b) = LAYOUTS[name], (latents(name), latents(name).flip(0))
    pairs = list(zip(layout.factors(a), layout.factors(b), strict=True))
    assert [of_a[1].shape[1] for of_a, _ in pairs] == list(layout.sizes)

    def sqdist(manifold, x, y):
        return manifold.sqdist(manifold.from_tangent(x, 1), manifold.from_tangent(y, 1), 1)

    added = sum(sqdist(manifold, x, y) for (manifold, x), (_, y) in pairs)
    torch.testing.assert_close(added, sqdist(layout.manifold, a, b))


@pytest.mark.parametrize("name", LAYOUTS)
def test_divided_by_their_scale_the_parts_have_unit_mean_square(name):
    layout, v = LAYOUTS[name], latents(name, 50)
    factors = torch.tensor([2.0, 5.0][: len(layout.sizes)])
    v = v * layout.per_coordinate(factors if len(factors) > 1 else factors[0])
    scale = layout.fitted_scale(v)
    assert scale.shape == layout.unit_scale().shape == (() if name != "both" else (2,))
    for _, part in layout.factors(v / layout.per_coordinate(scale)):
        torch.testing.assert_close(part.square().mean(), torch.ones(()))


@pytest.mark.parametrize("name", LAYOUTS)
def test_distances_of_scaled_latents_are_scaled(name):
    """(v, c) and (v/s, c·s²) are the same points in other units, part by part."""
    layout, (a, b) = LAYOUTS[name], (latents(name).double(), latents(name).double().flip(0))
    scale = torch.tensor([2.0, 0.5], dtype=torch.float64) if name == "both" else torch.tensor(2.0, dtype=torch.float64)
    along, manifold = layout.per_coordinate(scale), layout.rescaled(scale)
    unscaled = list(zip(layout.factors(a), layout.factors(b), strict=True))
    factors = manifold.direct_factors() if name == "both" else [manifold]
    scaled = [x / along for x in (a, b)]
    pieces = zip(factors, *(x.split(layout.sizes, 1) for x in scaled), scale.reshape(-1), unscaled, strict=True)
    for factor, x, y, s, ((whole, of_a), (_, of_b)) in pieces:
        ours = s * factor.dist(factor.from_tangent(x, 1), factor.from_tangent(y, 1), 1)
        torch.testing.assert_close(ours, whole.dist(whole.from_tangent(of_a, 1), whole.from_tangent(of_b, 1), 1))
