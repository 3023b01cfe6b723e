"""A map beside a point is one vector: nothing is lost, and its manifold is the map's and the point's side by side."""

import pytest
import torch

from hldm.geometry import (
    Euclidean,
    FixedCurvature,
    LearnableCurvature,
    Packing,
    PoincareBall,
    ProductManifold,
    is_plane,
    map_and_point,
    point_like,
)

SIDES = (2, 3)
BALL = PoincareBall(4, FixedCurvature(0.8))
MAPS = {
    "flat": Euclidean(4),
    "ball": BALL,
    "two balls": PoincareBall(4, FixedCurvature(0.8), balls=2),
    "hybrid": ProductManifold([Euclidean(1), PoincareBall(3, FixedCurvature(0.8))]),
}
POINT = PoincareBall(3, FixedCurvature(0.3))


def latents(seed):
    generator = torch.Generator().manual_seed(seed)
    of_map = torch.randn(5, 4, *SIDES, generator=generator, dtype=torch.float64)
    return of_map, torch.randn(5, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", MAPS)
def test_unpacking_is_the_inverse_of_packing(name):
    packing = Packing(MAPS[name], SIDES, 3)
    of_map, of_point = latents(0)
    packed = packing.pack(of_map, of_point)
    assert packed.shape == (5, sum(packing.parts)) == (5, 27)
    again = packing.unpack(packed)
    assert torch.equal(again[0], of_map)
    assert torch.equal(again[1], of_point)


@pytest.mark.parametrize("name", MAPS)
def test_distances_and_volumes_add_up_and_geodesics_are_those_of_the_parts(name):
    of_map, packing = MAPS[name], Packing(MAPS[name], SIDES, 3)
    both = map_and_point(of_map, SIDES, POINT)
    (map_a, point_a), (map_b, point_b) = latents(1), latents(2)
    a, b = packing.pack(map_a, point_a), packing.pack(map_b, point_b)
    za, zb = both.from_tangent(a), both.from_tangent(b)
    mza, mzb = of_map.from_tangent(map_a, 1), of_map.from_tangent(map_b, 1)
    pza, pzb = POINT.from_tangent(point_a), POINT.from_tangent(point_b)
    torch.testing.assert_close(both.sqdist(za, zb), of_map.sqdist(mza, mzb, 1).sum((1, 2)) + POINT.sqdist(pza, pzb))
    torch.testing.assert_close(both.log_volume(a), of_map.log_volume(map_a, 1).sum((1, 2)) + POINT.log_volume(point_a))
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    x_t, u_t = both.geodesic(za, zb, t[:, None])
    of_maps, of_points = of_map.geodesic(mza, mzb, t[:, None, None, None], 1), POINT.geodesic(pza, pzb, t[:, None])
    for got, m, p in zip((x_t, u_t), of_maps, of_points, strict=True):
        torch.testing.assert_close(got, packing.pack(m, p))


def test_each_part_is_rescaled_by_its_own_scale():
    both = map_and_point(BALL, SIDES, POINT)
    c = both.rescaled(torch.tensor([2.0, 3.0])).curvatures()
    torch.testing.assert_close(c, torch.tensor([0.8 * 4, 0.3 * 9], dtype=torch.float64))
    # an isometry up to units: distances within a part are divided by its scale
    packing = Packing(BALL, SIDES, 3)
    (of_map, of_point), (_, other) = latents(3), latents(4)
    a, b = packing.pack(of_map, of_point), packing.pack(of_map, other)
    scales = torch.tensor([2.0] * 24 + [3.0] * 3, dtype=torch.float64)
    small = both.rescaled(torch.tensor([2.0, 3.0]))
    torch.testing.assert_close(
        3 * small.dist(small.from_tangent(a / scales), small.from_tangent(b / scales)),
        both.dist(both.from_tangent(a), both.from_tangent(b)),
    )


def test_a_point_takes_the_curvature_of_the_balls():
    learned = LearnableCurvature(0.5)
    point = point_like(ProductManifold([Euclidean(2), PoincareBall(2, learned)]), 6)
    assert isinstance(point, PoincareBall)
    assert point.curvature is learned
    assert (point.channels, point.balls) == (6, 1)
    assert isinstance(point_like(Euclidean(4), 6), Euclidean)


@pytest.mark.parametrize("c", [0.0, 1e-4, 1e-6])
def test_the_limit_of_a_packed_manifold(c):
    """Bit for bit flat at c = 0, at the rate c beyond it."""
    flat, curved = (
        map_and_point(m, SIDES, point_like(m, 3)) for m in (Euclidean(4), PoincareBall(4, FixedCurvature(c)))
    )
    packing = Packing(Euclidean(4), SIDES, 3)
    a, b = packing.pack(*latents(5)), packing.pack(*latents(6))
    t = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
    results = []
    for m in (flat, curved):
        x_t, u_t = m.geodesic(m.from_tangent(a), m.from_tangent(b), t)
        results.append((m.to_tangent(x_t), m.to_frame(x_t, u_t), m.add_normal(a, b), m.log_volume(a)))
    for x, y in zip(*results, strict=True):
        if c == 0:
            assert torch.equal(x, y)
        else:
            assert 0.01 * c < (x - y).abs().max().item() < 100 * c


def test_a_plane_is_one_factor_of_dimension_two():
    ball = PoincareBall(2, FixedCurvature(1.0))
    for plane in (Euclidean(2), ball, ProductManifold([Euclidean(0), ball])):
        assert is_plane(plane)
    for other in (
        Euclidean(3),
        PoincareBall(3, FixedCurvature(1.0)),
        PoincareBall(2, FixedCurvature(1.0), balls=2),
        ProductManifold([Euclidean(2), ball]),
        ProductManifold([Euclidean(1), PoincareBall(1, FixedCurvature(1.0))]),
    ):
        assert not is_plane(other)
