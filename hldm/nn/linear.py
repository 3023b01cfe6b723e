"""Linear maps between manifolds: Möbius linear, Poincaré fully connected, Möbius concatenation.

Legend: inputs and outputs are normal coordinates, (*, C, …) → (*, K, …).
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hldm.geometry import Manifold
from hldm.nn.gyroplane import Gyroplane
from hldm.nn.hyperplanes import affine
from hldm.nn.leafwise import along, from_components


class MobiusLinear(nn.Module):
    """W ⊗ z ⊕ b: a matrix in the tangent space at the origin, then a Möbius translation (Ganea et al. (2018), eq. 28).

        W ⊗ z = exp_0(W log_0 z)                                        Ganea et al. (2018), Lemma 6 (eq. 27)

    As c → 0 it is W v + b. Under the same seed, `nn.Linear` has the same initial parameters.

    Args:
        manifold: of the inputs.
        out: of the outputs; their curvatures may differ, because the matrix acts on tangent vectors.
        dim: axis of the coordinates.
    """

    def __init__(self, manifold: Manifold, out: Manifold, dim: int = -1) -> None:
        super().__init__()
        self.out, self.dim = out, dim
        self.weight, self.bias = linear_parameters(manifold.channels, out.channels)

    def forward(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        image = affine(v, self.weight, None, self.dim)
        bias = along(self.bias, image, self.dim).to(image.dtype)
        return self.out.add_normal(image, bias.expand_as(image), self.dim)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]} → {self.weight.shape[0]}, dim={self.dim}"


class PoincareLinear(nn.Module):
    """Poincaré fully connected layer: the k-th output coordinate is the response of the k-th gyroplane.

        the signed distance from the output to the k-th coordinate hyperplane is f_k(z)     Shimizu et al. (2021)

    As c → 0 it is W v + b, with the initial parameters of `nn.Linear` under the same seed.

    Args:
        manifold: of the inputs.
        out: of the outputs.
        dim: axis of the coordinates.
    """

    def __init__(self, manifold: Manifold, out: Manifold, dim: int = -1) -> None:
        super().__init__()
        self.out, self.dim = out, dim
        self.planes = Gyroplane(manifold, out.channels, dim)

    def forward(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return from_components(self.out, self.planes(v), self.dim)


class MobiusConcat(nn.Module):
    """(W₁ ⊗ z₁) ⊕ (W₂ ⊗ z₂) ⊕ … ⊕ b: points of several manifolds into one, from the left to the right.

    Ganea et al. (2018), section 3.2 ("Concatenation of multiple input vectors"). As c → 0 it is a linear layer of the
    concatenated vectors, with the initial parameters that `nn.Linear` has under the same seed.

    Args:
        manifolds: of the inputs.
        out: of the output.
        dim: axis of the coordinates.
    """

    def __init__(self, manifolds: Sequence[Manifold], out: Manifold, dim: int = -1) -> None:
        super().__init__()
        self.sizes = [m.channels for m in manifolds]
        self.out, self.dim = out, dim
        self.weight, self.bias = linear_parameters(sum(self.sizes), out.channels)

    def forward(self, *points: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        assert len(points) == len(self.sizes), f"{len(self.sizes)} inputs, not {len(points)}"
        weights = self.weight.split(self.sizes, 1)
        total, *images = (affine(v, w, None, self.dim) for v, w in zip(points, weights, strict=True))
        for image in images:
            total = self.out.add_normal(total, image, self.dim)
        return self.out.add_normal(total, along(self.bias, total, self.dim).to(total.dtype).expand_as(total), self.dim)


def linear_parameters(channels: int, out_channels: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Weight (K, C) and bias (K), drawn as `nn.Linear` draws them."""
    weight, bias = nn.Parameter(torch.empty(out_channels, channels)), nn.Parameter(torch.empty(out_channels))
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    nn.init.uniform_(bias, -1 / math.sqrt(channels), 1 / math.sqrt(channels))
    return weight, bias
