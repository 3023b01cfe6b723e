"""Responses of points to hyperplanes: the formulae of the gyroplane layer, as functions.

Legend: K hyperplanes, C = k·n coordinates of k balls of dimension n, N batch entries. Inputs are normal coordinates.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hldm.geometry.elementary import arsinh, arsinh_and_root, pullback, sinh_value
from hldm.geometry.forms import two_forms
from hldm.geometry.normal import SPACELIKE_RADIUS, spacelike
from hldm.geometry.ops import flat, promote
from hldm.geometry.shapes import Scalar
from hldm.nn.leafwise import along

PVAE_SINH = 2 * 0.996 / (1 - 0.996**2)
"""sinh of √c times the largest distance, 6.2, that the float32 clamp of the authors' library leaves."""


def root(c: Scalar) -> Scalar:
    """√c for c > 0."""
    return c.sqrt() if isinstance(c, Tensor) else math.sqrt(c)


def planes(
    weight: Float[Tensor, "*B K n"], bias: Float[Tensor, "*B K"], norm2: Float[Tensor, "*B K"], c: Scalar
) -> tuple[Float[Tensor, "*B K n"], Float[Tensor, "*B K"], Float[Tensor, "*B K"], Float[Tensor, "*B K"]]:
    """Coordinates of K hyperplanes: the factors of the gyroplane formula that depend on parameters only.

    Args:
        weight: (*, K, n) normals a.
        bias: (*, K) this factor's share of the bias, so that the plane's signed offset is ρ = −bias/|a|.
        norm2: (*, K) |a|².
        c: > 0.

    Returns:
        (*, K, n) â cosh(√cρ), (*, K) −sinh(√cρ), (*, K) |a|/√c, and the (*, K) part of the bias beyond the clip,
        where the response has become linear in it.
    """
    # a zero normal (zero-initialised layers) has no direction; with this floor its response is the bias
    norm = (norm2 + 1e-30).sqrt()
    beta = root(c) * bias / norm
    clip = SPACELIKE_RADIUS[weight.dtype]
    clipped = beta.clamp(-clip, clip)
    slope = norm / root(c)
    return weight * (torch.cosh(clipped) / norm).unsqueeze(-1), torch.sinh(clipped), slope, slope * (beta - clipped)


def gyroplane(
    v: Float[Tensor, "N C *P"], weight: Float[Tensor, "K C"], bias: Float[Tensor, "K k"], c: Scalar, balls: int = 1
) -> Float[Tensor, "N K *P"]:
    """Responses of K hyperplanes per ball, added up over the balls.

        f(v) = |a|/√c · arsinh(sinh(√c|v|)⟨v̂,â⟩ cosh(√cρ) − cosh(√c|v|) sinh(√cρ)),   ρ = −b/|a|

    which is eq. 25 of Ganea et al. (2018) with p = Φ(ρâ), rewritten by hyperbolic functions of the distance: one matmul
    of hyperboloid coordinates with plane coordinates. As c → 0 it is ⟨a, v⟩ + b.

    Args:
        v: (N, k·n) normal coordinates, or (N, k·n, S) with S positions behind the coordinates.
        weight: (K, k·n).
        bias: (K, k): the bias of every ball.
        c: > 0.

    Returns:
        (N, K) or (N, K, S).
    """
    v, weight, bias = promote(v), promote(weight), promote(bias)
    vectors_in_one_ball = balls == 1 and v.ndim == 2
    return _one_ball(v, weight, bias, c) if vectors_in_one_ball else _gyroplane(v, weight, bias, c, balls)


def _gyroplane(
    v: Float[Tensor, "N C *P"], weight: Float[Tensor, "K C"], bias: Float[Tensor, "K k"], c: Scalar, balls: int
) -> Float[Tensor, "N K *P"]:
    """`gyroplane` by single operations."""
    a = weight.unflatten(1, (balls, -1)).transpose(0, 1)
    normals, offsets, slope, excess = planes(a, bias.T, a.square().sum(-1), c)
    space, time = spacelike(v.unflatten(1, (balls, -1)), c, 2)
    # the last column is the plane's −sinh(√cρ) against the point's cosh(√c|v|)
    rows = torch.cat([normals, offsets.unsqueeze(-1)], -1)
    points = torch.cat([root(c) * space, time], 2)
    if v.ndim == 2:
        if balls == 1:
            return torch.addcmul(excess[0], arsinh(F.linear(points[:, 0], rows[0])), slope[0])
        response = arsinh(points.transpose(0, 1) @ rows.transpose(-1, -2))  # (k, N, K)
        return (response * slope.unsqueeze(1)).sum(0) + excess.sum(0)
    # a grouped 1×1 convolution: a broadcast matmul would copy the planes for every batch entry
    response = arsinh(F.conv1d(points.flatten(1, 2), rows.flatten(0, 1).unsqueeze(-1), groups=balls))
    response = response.unflatten(1, (balls, -1))
    if balls == 1:
        return torch.addcmul(excess[0, :, None], response[:, 0], slope[0, :, None])
    return (response * slope.unsqueeze(-1)).sum(1) + excess.sum(0).unsqueeze(-1)


class _OneBall(torch.autograd.Function):
    """`gyroplane` of vectors in one ball as one node of the graph, with its gradient in closed form.

    Half the time of the single operations. Reverse mode, of any order; torch.func does not take it. With x = √c|v|:

        P = (sinh(x) v̂, cosh x),   R = (â cosh β, sinh β),   β = √c b/|a|,   f = |a|/√c · arsinh⟨P, R⟩

    and beyond the clip of β, where f is linear in b, f = |a|/√c · (arsinh⟨P, R⟩ − clip) + b.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, weight: Tensor, bias: Tensor, c: float) -> Tensor:
        root_c, clip = math.sqrt(c), SPACELIKE_RADIUS[v.dtype]
        # the floors leave a direction of length 0 to a point at the origin and to a zero normal
        length = torch.linalg.vector_norm(v, dim=1, keepdim=True).clamp_(min=1e-15)
        sinh_x = sinh_value((root_c * length).clamp_(max=clip))
        factor = sinh_x / length
        points = torch.cat([v * factor, (sinh_x * sinh_x).add_(1).sqrt_()], 1)
        norm = torch.linalg.vector_norm(weight, dim=1).clamp_(min=1e-15)
        beta = bias * root_c / norm
        clipped = beta.clamp(-clip, clip)
        sinh_b = sinh_value(clipped)
        cosh_b = (sinh_b * sinh_b).add_(1).sqrt_()
        rows = torch.cat([weight * (cosh_b / norm).unsqueeze(1), sinh_b.unsqueeze(1)], 1)
        y, r = arsinh_and_root(F.linear(points, rows))
        ctx.c = c
        ctx.save_for_backward(v, weight, bias, length, factor, points, norm, clipped, cosh_b, rows, y, r)
        slope = norm / root_c
        return torch.addcmul(beta.sub_(clipped).mul_(slope), y, slope)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        v, weight, bias, length, factor, points, norm, clipped, cosh_b, rows, y, r = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *pullback(lambda v, a, b: _gyroplane(v, a, b.unsqueeze(1), ctx.c, 1), (v, weight, bias), grad), None
        root_c, clip, n = math.sqrt(ctx.c), SPACELIKE_RADIUS[v.dtype], v.shape[1]
        grad_u = (grad * (norm / root_c)).div_(r)
        # points: P along v by the slope of sinh and cosh, across by sinh(x)/|v|
        grad_points, unit = grad_u @ rows, v / length
        inner = (grad_points[:, :n] * unit).sum(1, keepdim=True)
        rate = (root_c * length <= clip).to(v.dtype).mul_(root_c)
        radial = rate * (points[:, n:] * inner + factor * length * grad_points[:, n:])
        grad_v = factor * grad_points[:, :n] + unit * (radial - factor * inner)
        # planes: R depends on â and β, and f on |a| besides
        grad_rows = grad_u.T @ points
        along_a = (grad_rows[:, :n] * weight).sum(1).div_(norm)
        grad_beta = along_a * rows[:, n] + grad_rows[:, n] * cosh_b
        inside = clipped.abs() < clip
        grad_bias = torch.where(inside, grad_beta * root_c / norm, grad.sum(0))
        grad_norm = ((grad * y).sum(0) - grad_bias * clipped) / root_c - along_a * cosh_b / norm
        grad_weight = grad_rows[:, :n] * (cosh_b / norm).unsqueeze(1) + weight * (grad_norm / norm).unsqueeze(1)
        return grad_v, grad_weight, grad_bias, None


def _one_ball_node(v: Tensor, weight: Tensor, bias: Tensor, c: Scalar) -> Tensor:
    """`_OneBall` with c as a number: f depends on a learned c only through √c v and a/√c."""
    if isinstance(c, Tensor):
        v, weight, c = root(c) * v, weight / root(c), 1.0
    response: Tensor = _OneBall.apply(v, weight, bias.squeeze(1), c)
    return response


_one_ball = two_forms(eager=_one_ball_node, compiled=lambda v, weight, bias, c: _gyroplane(v, weight, bias, c, 1))


def pvae_gyroplane(
    v: Float[Tensor, "..."], weight: Float[Tensor, "K n"], bias: Float[Tensor, " K"], c: Scalar, dim: int
) -> Float[Tensor, "..."]:
    """Responses of K hyperplanes in the form of the published code of Mathieu et al. (2019).

        f(v) = sign(b)/√c · arsinh(2√c⟨−p ⊕ z, ŵ⟩ / (1 − c|−p ⊕ z|²)),   p = w sech²(√c b|w|),   z = Φ(v)

    The code hands its bias exp_0(b w) to the plane as normal and its weight, transported there, as foot point. So
    both lie along w, the normal's length is dropped, and p is not bound to the ball. Its library holds −p ⊕ z within
    √c·r = 6.2, which is all that keeps f finite where p is outside, so it is part of the form, in every dtype. With
    X + T the hyperboloid coordinates of v and κ = √c|p|, arsinh has the argument

        (⟨X, ŵ⟩ − a T) / max(g, √((T − a⟨X, ŵ⟩)² − g²)/sinh 6.2),   a = 2κ/(1 + κ²),   g = (1 − κ²)/(1 + κ²)

    As c → 0 it is sign(b)(⟨v, ŵ⟩ − 2|w|), which is also what the float c = 0 gives.

    Args:
        v: (*, n, …) normal coordinates in one ball.
        weight: (K, n) w.
        bias: (K) b.
        c: ≥ 0.
        dim: axis of the coordinates.

    Returns:
        (*, K, …).
    """
    v, weight, bias = promote(v), promote(weight), promote(bias)
    norm, sign = (weight.square().sum(1) + 1e-30).sqrt(), bias.sign()
    unit = weight / norm.unsqueeze(1)
    if flat(c):
        return affine(v, sign.unsqueeze(1) * unit, -2 * sign * norm, dim)
    space, time = spacelike(v, c, dim)
    inner = affine(space, root(c) * unit, None, dim)
    foot = root(c) * norm / torch.cosh((root(c) * bias * norm).clamp(-40, 40)).square()
    a = along(2 * foot / (1 + foot.square()), inner, dim)
    g = along((1 - foot) * (1 + foot) / (1 + foot.square()), inner, dim)
    # below the floor is only the point whose −p ⊕ z is infinite
    distance = ((time - a * inner).square() - g.square()).clamp(min=1e-12).sqrt()
    response = arsinh((inner - a * time) / torch.maximum(g, distance / PVAE_SINH))
    return response * along(sign / root(c), inner, dim)


def affine(
    v: Float[Tensor, "..."], weight: Float[Tensor, "K n"], bias: Float[Tensor, " K"] | None, dim: int
) -> Float[Tensor, "..."]:
    """⟨a_k, v⟩ + b_k along the axis `dim`, by the same kernel that `nn.Linear` or a 1×1 `nn.Conv` would call."""
    v, weight, bias = promote(v), promote(weight), None if bias is None else promote(bias)
    dim = dim % v.ndim
    if dim == v.ndim - 1:
        return F.linear(v, weight, bias)
    if dim == 1 and v.ndim == 4:
        return F.conv2d(v, weight[:, :, None, None], bias)
    if dim == 1 and v.ndim == 3:
        return F.conv1d(v, weight[:, :, None], bias)
    return F.linear(v.movedim(dim, -1), weight, bias).movedim(-1, dim)
