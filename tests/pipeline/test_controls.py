"""What is done to latents on their manifold: identities, distances, constant speed, ends, means, and c → 0."""

import pytest
import torch

from hldm.geometry import (
    Euclidean,
    FixedCurvature,
    LearnableCurvature,
    Manifold,
    PoincareBall,
    ProductManifold,
    map_and_point,
)
from hldm.pipeline import controls

SIDES = (2, 3)


def ball(channels: int = 4, c: float = 0.7, balls: int = 1) -> PoincareBall:
    return PoincareBall(channels, FixedCurvature(c), balls)


def hybrid(c: float = 0.7) -> ProductManifold:
    return ProductManifold([Euclidean(2), ball(2, c)])


SPACES: dict[str, tuple[Manifold, tuple[int, ...]]] = {
    "flat map": (Euclidean(4), (4, *SIDES)),
    "ball map": (ball(), (4, *SIDES)),
    "map of balls": (ball(balls=2), (4, *SIDES)),
    "hybrid map": (hybrid(), (4, *SIDES)),
    "learned ball map": (PoincareBall(4, LearnableCurvature(0.7)), (4, *SIDES)),
    "flat point": (Euclidean(3), (3,)),
    "ball point": (ball(3, 2.0), (3,)),
    "hybrid point": (hybrid(), (4,)),
    "ball at c = 0": (ball(c=0.0), (4,)),
    "map and point": (map_and_point(hybrid(), SIDES, ball(3)), (27,)),
    "flat map and point": (map_and_point(Euclidean(4), SIDES, ball(3)), (27,)),
}


@pytest.fixture(params=SPACES)
def space(request):
    """The manifold, and 7 latents in float32."""
    manifold, shape = SPACES[request.param]
    return manifold, torch.randn(7, *shape, generator=torch.Generator().manual_seed(0))


def distances(manifold, x, y):
    """By the formula of `sqdist` in ball coordinates, which is not the one under test."""
    manifold = controls.in_float64(manifold)
    squares = manifold.sqdist(*(manifold.from_tangent(v.double(), dim=1) for v in (x, y)), dim=1)
    return squares.reshape(len(squares), -1).sum(1).sqrt()


@pytest.mark.parametrize("around", ["origin", "mean"])
def test_radius_one_is_the_identity_and_radius_zero_the_centre(space, around):
    manifold, v = space
    centre = None if around == "origin" else controls.mean_latent(manifold, v)
    assert torch.equal(controls.moved(manifold, v, 1.0, centre), v)
    at = torch.zeros_like(v) if centre is None else centre.expand_as(v)
    assert torch.equal(controls.moved(manifold, v, 0.0, centre), at)


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.5, 2.0])
@pytest.mark.parametrize("around", ["origin", "mean"])
def test_distances_scale_by_the_factor(space, around, factor):
    manifold, v = space
    v = v.double()
    m = torch.zeros_like(v[0]) if around == "origin" else controls.mean_latent(manifold, v)
    moved = controls.moved(manifold, v, factor, None if around == "origin" else m)
    far = distances(manifold, m.unsqueeze(0), v)
    torch.testing.assert_close(distances(manifold, m.unsqueeze(0), moved), factor * far, rtol=1e-9, atol=0)
    # on the same geodesic: what is left of the way, or what was gone beyond
    torch.testing.assert_close(distances(manifold, moved, v), abs(1 - factor) * far, rtol=1e-7, atol=0)


def test_a_path_has_constant_speed_and_meets_its_ends(space):
    manifold, v = space
    a, b = v[0].double(), v[1].double()
    path = controls.geodesic_path(manifold, a, b, torch.linspace(0, 1, 9))
    assert torch.equal(path[0], a)
    assert torch.equal(path[-1], b)
    whole = distances(manifold, a.unsqueeze(0), b.unsqueeze(0))
    torch.testing.assert_close(distances(manifold, path[:-1], path[1:]), whole.expand(8) / 8, rtol=1e-9, atol=0)
    assert controls.path_length(manifold, path) == pytest.approx(float(whole), rel=1e-9)


def test_the_straight_path_is_the_geodesic_in_flat_space_alone(space):
    manifold, v = space
    a, b, times = v[0].double(), v[1].double(), torch.linspace(0, 1, 65)
    straight, geodesic = controls.straight_path(a, b, times), controls.geodesic_path(manifold, a, b, times)
    assert torch.equal(straight[0], a)
    assert torch.equal(straight[-1], b)
    longer = controls.path_length(manifold, straight) / controls.path_length(manifold, geodesic)
    if manifold.is_flat:
        torch.testing.assert_close(straight, geodesic, rtol=1e-12, atol=1e-12)
        assert longer == pytest.approx(1, abs=1e-12)
    else:
        assert longer > 1 + 5e-6


def test_the_mean_has_the_least_sum_of_squared_distances(space):
    manifold, v = space
    v = v.double()
    mean = controls.mean_latent(manifold, v)
    assert mean.shape == v.shape[1:]
    least = distances(manifold, mean.unsqueeze(0), v).square().sum()
    g = torch.Generator().manual_seed(1)
    for size in (1e-3, 0.1):
        for _ in range(20):
            other = mean + size * torch.randn(mean.shape, generator=g, dtype=mean.dtype)
            assert distances(manifold, other.unsqueeze(0), v).square().sum() > least
    if manifold.is_flat:
        torch.testing.assert_close(mean, v.mean(0), rtol=1e-12, atol=1e-12)
    else:
        assert (mean - v.mean(0)).abs().max() > 1e-3


def test_pairwise_distances_are_those_of_pairs(space):
    manifold, v = space
    found = controls.pairwise_distances(manifold, v[:3], v)
    pairs = torch.stack([distances(manifold, v[i : i + 1], v) for i in range(3)])
    torch.testing.assert_close(found, pairs, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[0], controls.distances(manifold, v[:1], v), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("balls", [1, 2])
def test_as_c_vanishes_everything_is_that_of_flat_space(balls):
    v = torch.randn(6, 4, *SIDES, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    nearly, flat, times = ball(c=1e-9, balls=balls), Euclidean(4), torch.linspace(0, 1, 5)

    def everything(manifold):
        mean = controls.mean_latent(manifold, v)
        return (
            mean,
            controls.moved(manifold, v, 1.7, mean),
            controls.geodesic_path(manifold, v[0], v[1], times),
            controls.pairwise_distances(manifold, v, v[:2]),
            controls.distances(manifold, mean.unsqueeze(0), v),
        )

    for a, b in zip(everything(nearly), everything(flat), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    # and where c = 0 is fixed, bit for bit but for distances, which are formed in ball coordinates
    for a, b in zip(everything(ball(c=0.0, balls=balls)), everything(flat), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=1e-14)


def test_float32_latents_come_back_as_float32(space):
    manifold, v = space
    mean = controls.mean_latent(manifold, v)
    path = controls.geodesic_path(manifold, v[0], v[1], torch.linspace(0, 1, 3))
    assert {mean.dtype, path.dtype, controls.moved(manifold, v, 0.5, mean).dtype} == {torch.float32}
    assert not mean.requires_grad


def test_nearest_merges_blocks_and_takes_the_first_of_equals():
    distances = torch.tensor([[3.0, 1.0, 2.0, 1.0, 0.5], [9.0, 9.0, 9.0, 9.0, 9.0]])
    for cuts in ([5], [2, 3], [1, 1, 1, 1, 1], [4, 1]):
        values, columns = controls.nearest(distances.split(cuts, dim=1), 3)
        assert values.tolist() == [[0.5, 1.0, 1.0], [9.0, 9.0, 9.0]]
        assert columns.tolist() == [[4, 1, 3], [0, 1, 2]]
