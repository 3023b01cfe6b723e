"""The gyroplane layer: signed distances to learned hyperplanes, the hyperbolic counterpart of a linear layer.

Legend: K outputs, C = k·n input coordinates of k balls of dimension n, N batch entries. Inputs are normal coordinates.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hldm.geometry import Euclidean, Manifold, PoincareBall
from hldm.geometry.analytic import cosh_, sinhc
from hldm.geometry.ops import Scalar, flat, promote, sqnorm

_CLIP = {torch.float32: 20.0, torch.float64: 150.0}
# e^clip for the point times e^clip for the plane must have a finite square, which the slope of arsinh needs.


def root(c: Scalar) -> Scalar:
    """√c for c > 0."""
    return c.sqrt() if isinstance(c, Tensor) else math.sqrt(c)


def lift(v: Tensor, c: Scalar, dim: int) -> tuple[Tensor, Tensor]:
    """Hyperboloid coordinates √c·x = sinh(√c|v|) v/|v| and cosh(√c|v|), the latter with the axis kept.

    √c|v| is clipped to 20 in float32 (150 in float64), where both are 10⁸ times beyond the accuracy of the format.
    """
    clip = _CLIP[v.dtype]
    s = c * sqnorm(v, dim)
    v = v * torch.clamp(clip * s.clamp(min=1).rsqrt(), max=1)
    s = s.clamp(max=clip**2)
    return v * (root(c) * sinhc(s)), cosh_(s)


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
    clipped = beta.clamp(-_CLIP[weight.dtype], _CLIP[weight.dtype])
    slope = norm / root(c)
    return weight * (torch.cosh(clipped) / norm).unsqueeze(-1), torch.sinh(clipped), slope, slope * (beta - clipped)


def gyroplane(v: Tensor, weight: Tensor, bias: Tensor, c: Scalar, balls: int = 1) -> Tensor:
    """Responses of K hyperplanes per ball, added up over the balls.

        f(v) = |a|/√c · arsinh(sinh(√c|v|)⟨v̂,â⟩ cosh(√cρ) − cosh(√c|v|) sinh(√cρ)),   ρ = −b/|a|

    which is eq. 25 of Ganea et al. (2018) with p = Φ(ρâ), rewritten by hyperbolic functions of the distance: one matmul
    of hyperboloid coordinates with plane coordinates. As c → 0 it is ⟨a, v⟩ + b.

    Args:
        v: (N, k·n, S) normal coordinates, S positions behind the coordinates.
        weight: (K, k·n).
        bias: (K, k): the bias of every ball.
        c: > 0.

    Returns:
        (N, K, S).
    """
    v = v.unflatten(1, (balls, -1))
    a = weight.unflatten(1, (balls, -1)).transpose(0, 1)
    normals, offsets, slope, excess = planes(a, bias.T, a.square().sum(-1), c)
    points = torch.cat(lift(v, c, 2), 2)
    # (k, K, n + 1) @ (N, k, n + 1, S): the last column is the plane's −sinh(√cρ) against the point's cosh(√c|v|)
    response = torch.asinh(torch.cat([normals, offsets.unsqueeze(-1)], -1) @ points)
    if balls == 1:
        return torch.addcmul(excess[0, :, None], response[:, 0], slope[0, :, None])
    return (response * slope.unsqueeze(-1)).sum(1) + excess.sum(0).unsqueeze(-1)


class Gyroplane(nn.Module):
    """`Linear`-shaped gyroplane layer on any manifold, on vectors or, as a 1×1 convolution, on feature maps.

    For normal coordinates v it returns the signed response of K hyperplanes: on the balls that of `gyroplane`, on
    Euclidean factors ⟨a, v⟩ + b. Plane k has its foot point at −b a/|a|² on the product of all factors, so ball j gets
    the share b|a_j|²/|a|² of the bias. Where everything is flat (also a ball with fixed c = 0) it *is* the affine layer,
    bit for bit, with the same initial parameters as `nn.Linear` and a 1×1 `nn.Conv2d` under the same seed.

    Args:
        manifold: of the inputs.
        out_channels: K.
        dim: axis of the coordinates in the input, and of the outputs.

    Shapes: input (*, C, …) → output (*, K, …). Accurate to 2e-4 in float32 for √c|v| ≤ 8; finite everywhere.
    """

    def __init__(self, manifold: Manifold, out_channels: int, dim: int = -1) -> None:
        super().__init__()
        self.manifold = manifold
        self.dim = dim
        self.weight = nn.Parameter(torch.empty(out_channels, manifold.channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The initialisation of `nn.Linear`, drawn in the same order."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        bound = 1 / math.sqrt(self.manifold.channels)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, v: Tensor) -> Tensor:
        leaves = self.manifold.leaves()
        if all(isinstance(leaf, Euclidean) or flat(cast(PoincareBall, leaf).c) for leaf in leaves):
            return affine(v, self.weight, self.bias, self.dim)
        with torch.autocast(v.device.type, enabled=False):
            return self._curved(promote(v), leaves)

    def _curved(self, v: Tensor, leaves: list[Manifold]) -> Tensor:
        dim = self.dim % v.ndim
        shape = v.shape
        rows = v.reshape(math.prod(shape[:dim]), shape[dim], -1)
        norm2 = self.weight.square().sum(1, keepdim=True) + 1e-30
        sizes = [leaf.channels for leaf in leaves]
        out: Tensor | None = None
        for leaf, x, a in zip(leaves, rows.split(sizes, 1), self.weight.split(sizes, 1), strict=True):
            if isinstance(leaf, Euclidean) or flat(cast(PoincareBall, leaf).c):
                response = affine(x, a, self.bias * a.square().sum(1) / norm2[:, 0], 1)
            else:
                ball = cast(PoincareBall, leaf)
                share = a.unflatten(1, (ball.balls, -1)).square().sum(-1) / norm2
                response = gyroplane(x, a, self.bias.unsqueeze(1) * share, ball.c, ball.balls)
            out = response if out is None else out + response
        assert out is not None
        return out.reshape(*shape[:dim], self.weight.shape[0], *shape[dim + 1 :])

    def extra_repr(self) -> str:
        return f"{self.manifold.channels} → {self.weight.shape[0]}, dim={self.dim}"


def affine(v: Tensor, weight: Tensor, bias: Tensor, dim: int) -> Tensor:
    """⟨a_k, v⟩ + b_k along the axis `dim`, by the same kernel that `nn.Linear` or a 1×1 `nn.Conv` would call."""
    dim = dim % v.ndim
    if dim == v.ndim - 1:
        return F.linear(v, weight, bias)
    if dim == 1 and v.ndim == 4:
        return F.conv2d(v, weight[:, :, None, None], bias)
    if dim == 1 and v.ndim == 3:
        return F.conv1d(v, weight[:, :, None], bias)
    return F.linear(v.movedim(dim, -1), weight, bias).movedim(-1, dim)
