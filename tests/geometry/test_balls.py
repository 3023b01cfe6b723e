"""What a manifold says about its balls, and the rule that cuts features into balls."""

import pytest
import torch

from hldm.geometry import (
    BALL_DIM,
    RADIUS,
    Euclidean,
    FixedCurvature,
    LearnableCurvature,
    Manifold,
    PoincareBall,
    ProductManifold,
    clip_norm,
    largest_balls,
    within_radius,
)

HYBRID = ProductManifold([Euclidean(2), ProductManifold([PoincareBall(6, FixedCurvature(0.7), 3), Euclidean(0)])])


def test_leaves_know_their_balls_and_curvature() -> None:
    flat, balls = HYBRID.leaves()
    assert (flat.channels, flat.balls, flat.ball_dim, flat.c) == (2, 1, 2, 0.0)
    assert (balls.channels, balls.balls, balls.ball_dim, balls.c) == (6, 3, 2, 0.7)
    learned = PoincareBall(4, LearnableCurvature(0.7))
    assert learned.c.requires_grad
    assert [leaf.channels for leaf, _ in HYBRID.pieces(torch.zeros(3, 8))] == [2, 6]
    x = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(0))
    for dim in (1, -2):
        assert torch.cat([piece for _, piece in HYBRID.pieces(x, dim)], dim).equal(x)
        view, axis = balls.by_ball(x[:, 2:], dim)
        assert view.shape == (3, 3, 2, 5)
        assert axis == -2
        assert balls.joined(view, axis).equal(x[:, 2:])


def test_direct_factors_are_those_that_a_product_was_made_of() -> None:
    assert [f.channels for f in HYBRID.direct_factors()] == [2, 6]
    inner = HYBRID.direct_factors()[1]
    assert [f.channels for f in inner.direct_factors()] == [6, 0]
    (ball,) = inner.leaves()
    assert ball.direct_factors() == [ball]


@pytest.mark.parametrize(
    ("manifold", "is_flat"),
    [
        (Euclidean(3), True),
        (PoincareBall(4, FixedCurvature(0.0), 2), True),
        (PoincareBall(4, FixedCurvature(1e-30)), False),
        (PoincareBall(4, LearnableCurvature(1e-30)), False),
        (PoincareBall(4, LearnableCurvature(0.7)).rescaled(0.0), False),
        (ProductManifold([Euclidean(2), PoincareBall(4, FixedCurvature(0.0))]), True),
        (ProductManifold([Euclidean(2), PoincareBall(0, FixedCurvature(1.0))]), True),
        (HYBRID, False),
    ],
)
def test_a_manifold_knows_whether_it_is_flat(manifold: Manifold, is_flat: bool) -> None:
    assert manifold.is_flat is is_flat


def test_other_channels_of_the_same_curvature() -> None:
    curvature = LearnableCurvature(0.7)
    leaf = PoincareBall(4, curvature, balls=2)
    other = leaf.like(9, 3)
    assert (other.channels, other.balls) == (9, 3)
    assert next(other.parameters()) is curvature.raw
    assert leaf.like(5).balls == 1
    assert (leaf.repeated(3).channels, leaf.repeated(3).balls) == (12, 6)
    assert (Euclidean(4).like(9, 3).channels, Euclidean(4).like(9, 3).balls) == (9, 1)


@pytest.mark.parametrize(
    ("channels", "balls"), [(32, 4), (16, 2), (8, 1), (12, 2), (20, 4), (192, 24), (7, 1), (11, 11)]
)
def test_features_are_cut_into_the_largest_balls_that_fit(channels: int, balls: int) -> None:
    curvature = FixedCurvature(1.0)
    leaf = largest_balls(channels, curvature)
    assert (leaf.channels, leaf.balls, leaf.c) == (channels, balls, 1.0)
    assert leaf.ball_dim <= BALL_DIM
    flat = largest_balls(channels, FixedCurvature(0.0))
    assert isinstance(flat, Euclidean)
    assert flat.channels == channels


@pytest.mark.parametrize("c", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("learned", [False, True])
def test_points_are_held_within_the_radius_in_every_ball(c: float, learned: bool) -> None:
    curvature = LearnableCurvature(c) if learned else FixedCurvature(c)
    manifold = ProductManifold([Euclidean(2), PoincareBall(6, curvature, balls=3)])
    v = torch.randn(50, 8, 4, generator=torch.Generator().manual_seed(0)) * 2 * RADIUS / c**0.5
    held = within_radius(manifold, v, dim=1)
    assert held[:, :2].equal(v[:, :2])
    radii, before = (x[:, 2:].unflatten(1, (3, 2)).norm(dim=2) * c**0.5 for x in (held, v))
    assert (before > RADIUS).any()
    assert (before < RADIUS).any()
    torch.testing.assert_close(radii, before.clamp(max=RADIUS), rtol=1e-5, atol=0)
    torch.testing.assert_close(
        torch.nn.functional.normalize(held[:, 2:].unflatten(1, (3, 2)), dim=2),
        torch.nn.functional.normalize(v[:, 2:].unflatten(1, (3, 2)), dim=2),
    )


def test_norms_are_clipped_in_flat_factors_too() -> None:
    v = 5 * torch.randn(50, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v[0] = 0
    v.requires_grad_()
    clipped = clip_norm(HYBRID, v, 1.5)
    for a, b in ((clipped[:, :2], v[:, :2]), (clipped[:, 2:].unflatten(1, (3, 2)), v[:, 2:].unflatten(1, (3, 2)))):
        torch.testing.assert_close(a.norm(dim=-1), b.norm(dim=-1).clamp(max=1.5))
    (slope,) = torch.autograd.grad(clipped.sum(), v)
    assert slope[0].eq(1).all()
    assert slope.isfinite().all()
