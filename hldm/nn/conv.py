"""Poincaré convolutions on feature maps (B, C, H, W) of normal coordinates.

A patch of points is joined to one point by β-concatenation, and the gyroplanes of a Poincaré fully connected layer
answer to it (Shimizu et al. (2021), section 3.3). The joined point's normal coordinates are ratio·(v₁, …, v_N) with
ratio = β_N/β_n, β_n = B(n/2, 1/2), which keeps the expected radius. The gyroplanes' normals are stored multiplied by
the ratio, so that the limit c → 0 is the ordinary convolution with the stored weights.

No patches are formed: the response depends on a patch through ⟨v, a⟩, which is a convolution with a, and through |v|²,
which is a box sum.
"""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hldm.geometry import Leaf, Manifold
from hldm.geometry.analytic import sinhc_and_cosh
from hldm.geometry.elementary import arsinh
from hldm.geometry.normal import SPACELIKE_RADIUS
from hldm.geometry.ops import full_precision, promote
from hldm.nn.hyperplanes import planes, root
from hldm.nn.leafwise import from_components


def log_beta(n: float) -> float:
    """log B(n/2, 1/2)."""
    return math.lgamma(n / 2) + math.lgamma(0.5) - math.lgamma((n + 1) / 2)


class _PoincareConv(nn.Module, ABC):
    """Base of convolution and transposed convolution; `conv` holds the parameters in the usual shape."""

    conv: nn.Conv2d | nn.ConvTranspose2d

    def __init__(self, manifold: Leaf, out: Manifold, taps: float) -> None:
        super().__init__()
        self.manifold, self.out = manifold, out
        self.ratio = math.exp(log_beta(manifold.channels * taps) - log_beta(manifold.ball_dim))

    @abstractmethod
    def _correlate(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The linear convolution, for weights of the shape of `conv.weight` or with single channels."""

    @abstractmethod
    def _rows(self, weight: Tensor) -> Tensor:
        """Weights with the output channels first."""

    def forward(self, v: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K H2 W2"]:
        """(B, C, H, W) → (B, K, H2, W2)."""
        assert self.conv.bias is not None
        v, weight, bias = promote(v), promote(self.conv.weight), promote(self.conv.bias)
        if self.manifold.is_flat:
            return from_components(self.out, self._correlate(v, weight, bias), 1)
        with full_precision(v):
            return from_components(self.out, self._responses(v, weight / self.ratio, bias), 1)

    def _responses(
        self, v: Float[Tensor, "B C H W"], weight: Float[Tensor, "_ _ h w"], bias: Float[Tensor, " K"]
    ) -> Float[Tensor, "B K H2 W2"]:
        c = self.manifold.c
        rows = self._rows(weight).flatten(1)
        normals, offsets, slope, excess = planes(rows, bias, rows.square().sum(1), c)
        box = torch.ones(1, 1, *weight.shape[2:], dtype=v.dtype, device=v.device)
        s = (c * self.ratio**2) * self._correlate(v.square().sum(1, keepdim=True), box)
        clip = SPACELIKE_RADIUS[v.dtype]
        shrink = (clip * s.clamp(min=1).rsqrt()).clamp(max=1)
        s = s.clamp(max=clip**2)
        inner = self._correlate(v, self._rows(normals.unflatten(1, self._rows(weight).shape[1:])))
        per_channel = (-1, 1, 1)
        space, time = sinhc_and_cosh(s)
        argument = torch.addcmul(time * offsets.reshape(per_channel), inner, root(c) * self.ratio * shrink * space)
        return torch.addcmul(excess.reshape(per_channel), arsinh(argument), slope.reshape(per_channel))


class PoincareConv2d(_PoincareConv):
    """Convolution whose outputs are points of `out`; as c → 0 it is `nn.Conv2d` with the same parameters.

    Args:
        manifold: of the input at every position.
        out: of the output at every position; with a Euclidean one the outputs are the signed distances to gyroplanes
            themselves.
        kernel_size, stride, padding: as in `nn.Conv2d`; padding adds points at the origin.
    """

    def __init__(self, manifold: Leaf, out: Manifold, kernel_size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(manifold, out, kernel_size**2)
        self.stride, self.padding = stride, padding
        self.conv = nn.Conv2d(manifold.channels, out.channels, kernel_size, stride, padding)

    def _correlate(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding)

    def _rows(self, weight: Tensor) -> Tensor:
        return weight


class PoincareConvTranspose2d(_PoincareConv):
    """Transposed convolution: the convolution of the map with points at the origin put between the positions.

    As c → 0 it is `nn.ConvTranspose2d` with the same parameters. A patch counts the (kernel_size/stride)² positions
    that are not such fillers.

    Args:
        manifold: of the input at every position.
        out: of the output at every position.
        kernel_size, stride, padding: as in `nn.ConvTranspose2d`.
    """

    def __init__(self, manifold: Leaf, out: Manifold, kernel_size: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(manifold, out, (kernel_size / stride) ** 2)
        self.stride, self.padding = stride, padding
        self.conv = nn.ConvTranspose2d(manifold.channels, out.channels, kernel_size, stride, padding)

    def _correlate(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv_transpose2d(x, weight, bias, self.stride, self.padding)

    def _rows(self, weight: Tensor) -> Tensor:
        return weight.transpose(0, 1)
