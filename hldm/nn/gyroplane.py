"""The gyroplane layer: signed distances to learned hyperplanes, the hyperbolic counterpart of a linear layer.

Legend: K outputs, C = k·n input coordinates of k balls of dimension n, N batch entries. Inputs are normal coordinates.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hldm.errors import UserError
from hldm.geometry import Manifold
from hldm.geometry.elementary import arsinh
from hldm.geometry.normal import SPACELIKE_RADIUS, spacelike
from hldm.geometry.ops import Scalar, flat, promote
from hldm.nn.leafwise import along, curvature_and_balls, is_flat

PVAE_SINH = 2 * 0.996 / (1 - 0.996**2)
"""sinh of √c times the largest distance, 6.2, that the float32 clamp of the authors' library leaves."""


def root(c: Scalar) -> Scalar:
    """√c for c > 0."""
    return c.sqrt() if isinstance(c, Tensor) else math.sqrt(c)


def planes(weight: Tensor, bias: Tensor, norm2: Tensor, c: Scalar) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What of the gyroplane formula depends on parameters only.

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


def gyroplane(v: Tensor, weight: Tensor, bias: Tensor, c: Scalar, balls: int = 1) -> Tensor:
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


def pvae_gyroplane(v: Tensor, weight: Tensor, bias: Tensor, c: Scalar, dim: int) -> Tensor:
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


class Gyroplane(nn.Module):
    """`Linear`-shaped gyroplane layer on any manifold, on vectors or, as a 1×1 convolution, on feature maps.

    For normal coordinates v it returns the signed response of K hyperplanes: on the balls that of `gyroplane`, on
    Euclidean factors ⟨a, v⟩ + b. Plane k has its foot point at −b a/|a|² on the product of all factors, so ball j gets
    the share b|a_j|²/|a|² of the bias. Where everything is flat (also a ball with fixed c = 0) it *is* the affine
    layer, bit for bit, with the same initial parameters as `nn.Linear` and a 1×1 `nn.Conv2d` under the same seed.

    Args:
        manifold: of the inputs.
        out_channels: K.
        dim: axis of the coordinates in the input, and of the outputs.
        form: "paper", or "pvae" for `pvae_gyroplane`, with the initial parameters of that code; for one ball or one
            Euclidean factor only.

    Shapes: input (*, C, …) → output (*, K, …). Accurate to 2e-4 in float32 for √c|v| ≤ 8; finite everywhere.
    """

    def __init__(
        self, manifold: Manifold, out_channels: int, dim: int = -1, form: Literal["paper", "pvae"] = "paper"
    ) -> None:
        super().__init__()
        if form not in ("paper", "pvae"):
            raise UserError(
                f"form={form} is not a form of the gyroplane layer. Use form=paper, the formula of Ganea et al. "
                "(2018), or form=pvae, what the code of Mathieu et al. (2019) computes."
            )
        if form == "pvae" and sum(curvature_and_balls(leaf)[1] for leaf in manifold.leaves()) > 1:
            raise UserError(
                "form=pvae of the gyroplane layer is defined on one ball, not on a product. Use balls=1 and no other "
                "factor, or form=paper."
            )
        self.manifold = manifold
        self.dim = dim
        self.form = form
        self.weight = nn.Parameter(torch.empty(out_channels, manifold.channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The initialisation of `nn.Linear`, drawn in the same order, or that of the authors' code."""
        bound = 1 / math.sqrt(self.manifold.channels)
        if self.form == "pvae":
            nn.init.normal_(self.weight, std=bound / math.sqrt(3))
            nn.init.uniform_(self.bias, -4 * bound, 4 * bound)
        else:
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, v: Tensor) -> Tensor:
        if self.form == "pvae":
            with torch.autocast(v.device.type, enabled=False):
                c, _ = curvature_and_balls(self.manifold.leaves()[0])
                return pvae_gyroplane(promote(v), self.weight, self.bias, c, self.dim)
        if is_flat(self.manifold):
            return affine(v, self.weight, self.bias, self.dim)
        with torch.autocast(v.device.type, enabled=False):
            return self._curved(promote(v), self.manifold.leaves())

    def _curved(self, v: Tensor, leaves: list[Manifold]) -> Tensor:
        dim = self.dim % v.ndim
        shape = v.shape
        rows = v.reshape(math.prod(shape[:dim]), shape[dim], *([] if dim == v.ndim - 1 else [-1]))
        if len(leaves) == 1 and curvature_and_balls(leaves[0])[1] == 1:
            c, _ = curvature_and_balls(leaves[0])
            out = gyroplane(rows, self.weight, self.bias.unsqueeze(1), c)
        else:
            out = self._shared(rows, leaves)
        return out.reshape(*shape[:dim], self.weight.shape[0], *shape[dim + 1 :])

    def _shared(self, rows: Tensor, leaves: list[Manifold]) -> Tensor:
        """Responses of several balls and factors, each with its share of the bias."""
        # the floor shares a bias by dimension where the normal is 0, so that zero-initialised layers keep theirs
        floor = 1e-30 / self.manifold.channels
        norm2 = (self.weight.square() + floor).sum(1, keepdim=True)
        sizes = [leaf.channels for leaf in leaves]
        responses = []
        for leaf, x, a in zip(leaves, rows.split(sizes, 1), self.weight.split(sizes, 1), strict=True):
            c, balls = curvature_and_balls(leaf)
            share = (a.square() + floor).unflatten(1, (balls, -1)).sum(-1) / norm2
            if flat(c):
                responses.append(affine(x, a, self.bias * share.sum(1), 1))
            else:
                responses.append(gyroplane(x, a, self.bias.unsqueeze(1) * share, c, balls))
        return sum(responses[1:], responses[0])

    def extra_repr(self) -> str:
        return f"{self.manifold.channels} → {self.weight.shape[0]}, dim={self.dim}, form={self.form}"


def affine(v: Tensor, weight: Tensor, bias: Tensor | None, dim: int) -> Tensor:
    """⟨a_k, v⟩ + b_k along the axis `dim`, by the same kernel that `nn.Linear` or a 1×1 `nn.Conv` would call."""
    dim = dim % v.ndim
    if dim == v.ndim - 1:
        return F.linear(v, weight, bias)
    if dim == 1 and v.ndim == 4:
        return F.conv2d(v, weight[:, :, None, None], bias)
    if dim == 1 and v.ndim == 3:
        return F.conv1d(v, weight[:, :, None], bias)
    return F.linear(v.movedim(dim, -1), weight, bias).movedim(-1, dim)
