"""Normalisation of points, in normal coordinates."""

import torch
from torch import Tensor, nn

from hldm.geometry import Manifold
from hldm.geometry.ops import promote
from hldm.geometry.shapes import Operand, Whole
from hldm.nn.leafwise import along, to_normal, to_spacelike


class HyperbolicBatchNorm(nn.Module):
    """Moves the batch's midpoint to a learned point and scales the variances around it.

        z ↦ exp_β(γ ⊙ log_μ(z)/σ),   μ the gyro-midpoint, σ² the variances of log_μ(z) in the orthonormal frame

    Riemannian batch normalisation (Lou et al. (2020), Algorithm 2) with van Spengler et al.'s (2023) midpoint in place
    of the Fréchet mean, and with a variance per coordinate instead of one for all, so that as c → 0 it is
    `nn.BatchNorm` with the same parameters. The frames at μ and β are those transported from the origin.

    Args:
        manifold: of the points.
        dim: axis of the coordinates; statistics are taken over all other axes.
        eps: added to the variances.
        momentum: of the running midpoint (along geodesics) and variances.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, manifold: Manifold, dim: int = 1, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.manifold, self.dim, self.eps, self.momentum = manifold, dim, eps, momentum
        self.weight = nn.Parameter(torch.ones(manifold.channels))
        self.bias = nn.Parameter(torch.zeros(manifold.channels))
        self.register_buffer("running_mean", torch.zeros(manifold.channels))
        self.register_buffer("running_var", torch.ones(manifold.channels))

    def forward(self, v: Operand) -> Whole:
        """(*, C, …) → same shape."""
        moved = promote(v).movedim(self.dim, -1)
        rows = moved.flatten(0, -2)
        if self.training and len(rows):  # an empty batch has no statistics
            mean = self.manifold.midpoint(rows, torch.ones(1, len(rows), dtype=rows.dtype, device=rows.device))[0]
            w = self.manifold.add_normal(-mean.expand_as(rows), rows)
            var = w.square().mean(0)
            self._track(mean.detach(), var.detach() * len(rows) / max(len(rows) - 1, 1))
        else:
            mean, var = promote(self.running_mean), promote(self.running_var)
            w = self.manifold.add_normal(-mean.expand_as(rows), rows)
        w = w * (self.weight * (var + self.eps).rsqrt())
        out = self.manifold.add_normal(self.bias.to(w.dtype).expand_as(w), w)
        return out.reshape(moved.shape).movedim(-1, self.dim)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        step = self.manifold.add_normal(-self.running_mean, mean)
        self.running_mean.copy_(self.manifold.add_normal(self.running_mean, self.momentum * step))
        self.running_var.lerp_(var.to(self.running_var.dtype), self.momentum)

    def extra_repr(self) -> str:
        return f"{self.manifold.channels}, dim={self.dim}, eps={self.eps:g}, momentum={self.momentum:g}"


class HyperbolicRMSNorm(nn.Module):
    """RMS normalisation of hyperboloid coordinates: y ↦ g ⊙ y/√(mean(y²) + ε), y = sinh(√c|v|) v/(√c|v|).

    He et al. (2025, HELM) normalise the space-like part in this way. As c → 0 it is `nn.RMSNorm` of v.

    Args:
        manifold: of the points; the mean runs over the coordinates of all factors.
        dim: axis of the coordinates.
        eps: ε > 0.
    """

    def __init__(self, manifold: Manifold, dim: int = -1, eps: float = 1e-6) -> None:
        super().__init__()
        self.manifold, self.dim, self.eps = manifold, dim, eps
        self.weight = nn.Parameter(torch.ones(manifold.channels))

    def forward(self, v: Operand) -> Whole:
        """(*, C, …) → same shape."""
        y = to_spacelike(self.manifold, v, self.dim)
        y = y * (y.square().mean(self.dim, keepdim=True) + self.eps).rsqrt()
        return to_normal(self.manifold, y * along(self.weight, y, self.dim), self.dim)

    def extra_repr(self) -> str:
        return f"{self.manifold.channels}, dim={self.dim}, eps={self.eps:g}"
