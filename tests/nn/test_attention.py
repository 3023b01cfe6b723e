"""Attention by distance: its formula in geometry's own terms, its clip, its limit in float32, its derivatives."""

import pytest
import torch

from hldm.geometry import Euclidean, ProductManifold
from hldm.nn import HyperbolicAttention, distance_attention
from hldm.nn.attention import _arcosh1p_squared
from tests.nn.test_layers import F64, C, ball, noise, seeded


def test_attention_weights_fall_with_distance_and_commute_with_isometries() -> None:
    manifold = ball(4, 1.0, 2)
    q, k, v = noise(3, 4), noise(6, 4, seed=1), noise(6, 4, seed=2)
    out = distance_attention(q, k, v, torch.tensor(0.8, dtype=F64), manifold)
    z, p = manifold.from_tangent(q), manifold.from_tangent(k)
    weights = (-0.8 * manifold.sqdist(z[:, None], p[None])).softmax(-1)
    torch.testing.assert_close(out, manifold.midpoint(v, weights))
    shift = torch.tensor([0.3, -0.4, 0.8, 0.1], dtype=F64)

    def moved(x: torch.Tensor) -> torch.Tensor:
        return manifold.add_normal(shift.expand_as(x), x)

    torch.testing.assert_close(
        distance_attention(moved(q), moved(k), moved(v), torch.tensor(0.8, dtype=F64), manifold), moved(out)
    )


def test_attention_has_the_same_value_without_gradients_and_derivatives_of_both_orders() -> None:
    manifold, sharpness = ball(4, 0.7, 2), torch.tensor(0.8, dtype=F64)
    points = [0.8 * noise(n, 4, seed=seed).requires_grad_() for seed, n in enumerate((2, 3, 3))]

    def attend(*qkv: torch.Tensor) -> torch.Tensor:
        return distance_attention(*qkv, sharpness.to(qkv[0].dtype), manifold)

    for dtype in (torch.float32, F64):
        cast = [x.to(dtype) for x in points]
        with torch.no_grad():
            expected = attend(*cast)
        assert torch.equal(attend(*cast), expected)
    assert torch.autograd.gradcheck(attend, points, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(attend, points)


def test_squared_distances_keep_their_accuracy_where_points_meet() -> None:
    h = torch.tensor([1e-12, 1e-6, 1e-3, 1.0, 1e3], dtype=torch.float32, requires_grad=True)
    exact = h.detach().double().requires_grad_()
    # arcosh(1 + h) = 2 arsinh(√(h/2)) has no cancellation
    expected = 4 * torch.asinh((exact / 2).sqrt()).square()
    y = _arcosh1p_squared(h)
    torch.testing.assert_close(y.double(), expected, rtol=1e-6, atol=0)
    y.sum().backward(), expected.sum().backward()
    torch.testing.assert_close(h.grad.double(), exact.grad, rtol=1e-6, atol=0)
    below = torch.tensor([0.0, -1e-7], requires_grad=True)
    _arcosh1p_squared(below).sum().backward()
    torch.testing.assert_close(below.grad, torch.tensor([2.0, 2.0]))


def test_attention_in_float32_reaches_the_flat_limit() -> None:
    q, k, v = (x.float() for x in (noise(3, 4), noise(6, 4, seed=1), noise(6, 4, seed=2)))
    outs = [distance_attention(q, k, v, torch.tensor(0.8), ball(4, c, 2)) for c in (0.0, 1e-7, 1e-12)]
    for out in outs[1:]:
        torch.testing.assert_close(out, outs[0], rtol=1e-5, atol=1e-5)


def test_attention_clips_every_ball_at_the_same_curved_radius() -> None:
    c, clip = 0.3, 2.0
    head, sharpness = ball(4, c, 2), torch.ones(())
    points = [3 * noise(2, 5, 4, seed=seed) for seed in range(3)]
    radii = [x.unflatten(-1, (2, 2)).norm(dim=-1, keepdim=True) for x in points]
    assert all((r > clip / c**0.5).any() and (r < clip / c**0.5).any() for r in radii)
    shorter = [
        (x.unflatten(-1, (2, 2)) / r * r.clamp(max=clip / c**0.5)).flatten(-2)
        for x, r in zip(points, radii, strict=True)
    ]
    clipped = distance_attention(*points, sharpness, head, clip=clip)
    torch.testing.assert_close(clipped, distance_attention(*shorter, sharpness, head, clip=100.0))
    flat = [distance_attention(*points, sharpness, ball(4, 0.0, 2), clip=clip) for clip in (0.1, 100.0)]
    torch.testing.assert_close(*flat, rtol=0, atol=0)


def test_attention_clips_queries_and_keys_but_takes_context() -> None:
    manifold, context = ball(C, 1.0), ProductManifold([Euclidean(2), ball(3, 1.0)])
    x, y = 0.5 * noise(2, 6, C), 0.5 * noise(2, 9, 5, seed=1)
    layers = [
        seeded(lambda clip=clip: HyperbolicAttention(manifold, 2, ball(4, 1.0), context, clip=clip))
        for clip in (0.1, 4.0, 400.0)
    ]
    outs = [layer(x, y) for layer in layers]
    assert outs[0].shape == (2, 6, C)
    assert not outs[0].allclose(outs[1])
    torch.testing.assert_close(outs[1], outs[2])  # nothing that near is clipped
    with pytest.raises(ValueError, match="heads=0"):
        HyperbolicAttention(manifold, 0, ball(4, 1.0))
    with pytest.raises(ValueError, match="clip=0"):
        HyperbolicAttention(manifold, 1, ball(4, 1.0), clip=0.0)
