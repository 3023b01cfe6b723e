"""The gyroplane layer: signed distances to learned hyperplanes, the hyperbolic counterpart of a linear layer."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hldm.errors import UserError
from hldm.geometry import Manifold
from hldm.geometry.ops import full_precision, promote
from hldm.nn.hyperplanes import affine, gyroplane, pvae_gyroplane


class Gyroplane(nn.Module):
    """`Linear`-shaped gyroplane layer on any manifold, on vectors or, as a 1×1 convolution, on feature maps.

    For normal coordinates v the layer returns signed responses of K hyperplanes: `gyroplane` on balls, ⟨a, v⟩ + b on
    Euclidean factors. Plane k has its foot point at −b a/|a|² on the product of all factors, so ball j gets
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
            raise ValueError(f"form={form!r} is not a form of the gyroplane layer: it must be 'paper' or 'pvae'.")
        if form == "pvae" and sum(leaf.balls for leaf in manifold.leaves()) > 1:
            raise UserError(
                "form=pvae of the gyroplane layer is defined on one ball or one flat factor, not on a product. Use "
                "form=paper, which is."
            )
        self.manifold = manifold
        self.dim = dim
        self.form = form
        self.weight = nn.Parameter(torch.empty(out_channels, manifold.channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw parameters as `nn.Linear` does, in its order; where form is "pvae", as the authors' code does."""
        bound = 1 / math.sqrt(self.manifold.channels)
        if self.form == "pvae":
            nn.init.normal_(self.weight, std=bound / math.sqrt(3))
            nn.init.uniform_(self.bias, -4 * bound, 4 * bound)
        else:
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        if self.form == "pvae":
            with full_precision(v):
                (leaf,) = self.manifold.leaves()
                return pvae_gyroplane(v, self.weight, self.bias, leaf.c, self.dim)
        if self.manifold.is_flat:
            return affine(v, self.weight, self.bias, self.dim)
        with full_precision(v):
            dim = self.dim % v.ndim
            if dim == 1 and v.ndim == 2:
                return self._responses(v)
            # (*before, C, *after) → (N, C), or (N, C, S) with S positions behind the coordinates
            before, after = v.shape[:dim], v.shape[dim + 1 :]
            positions = [math.prod(after)] if after else []
            out = self._responses(v.reshape(math.prod(before), v.shape[dim], *positions))
            return out.reshape(*before, self.weight.shape[0], *after)

    def _responses(self, v: Float[Tensor, "N C *P"]) -> Float[Tensor, "N K *P"]:
        """(N, C) → (N, K), or (N, C, S) → (N, K, S)."""
        leaves = self.manifold.leaves()
        if len(leaves) == 1 and leaves[0].balls == 1:
            return gyroplane(v, self.weight, self.bias.unsqueeze(1), leaves[0].c)
        return self._shared(promote(v), promote(self.weight), promote(self.bias))

    def _shared(
        self, v: Float[Tensor, "N C *P"], weight: Float[Tensor, "K C"], bias: Float[Tensor, " K"]
    ) -> Float[Tensor, "N K *P"]:
        """Responses of several balls and factors, each with its share of the bias."""
        # the floor shares a bias by dimension where the normal is 0, so that zero-initialised layers keep theirs
        floor = 1e-30 / self.manifold.channels
        norm2 = (weight.square() + floor).sum(1, keepdim=True)
        responses = []
        for (leaf, x), (_, a) in zip(self.manifold.pieces(v, 1), self.manifold.pieces(weight, 1), strict=True):
            share = (a.square() + floor).unflatten(1, (leaf.balls, leaf.ball_dim)).sum(-1) / norm2
            if leaf.is_flat:
                responses.append(affine(x, a, bias * share.sum(1), 1))
            else:
                responses.append(gyroplane(x, a, bias.unsqueeze(1) * share, leaf.c, leaf.balls))
        return sum(responses[1:], responses[0])

    def extra_repr(self) -> str:
        return f"{self.manifold.channels} → {self.weight.shape[0]}, dim={self.dim}, form={self.form}"
