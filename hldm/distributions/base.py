"""What a latent distribution offers to a model: draws, densities, and the KL to a centred prior.

Legend: a point has C coordinates along `dim`; all other axes are batch axes. `m` are the normal coordinates of the
mean, `w` a frame vector at the mean, `v` normal coordinates of a sample, `z` the same sample as a point.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from hldm.errors import UserError
from hldm.geometry import Manifold, PoincareBall
from hldm.geometry.ops import MAX_RADIUS


@dataclass(frozen=True)
class Draw:
    """A reparametrised sample. Keep it where both the sample and its KL or density are needed: nothing is inverted.

    Attributes:
        w: (*S, *B, C, …) frame vector at the mean that leads to the sample.
        v: same shape, normal coordinates of the sample.
    """

    manifold: Manifold
    dim: int
    w: Tensor
    v: Tensor

    @property
    def z(self) -> Tensor:
        """The sample as a point, same shape; refused where the number format has no coordinates for it."""
        check_radius(self.manifold, self.v, self.dim)
        return self.manifold.from_tangent(self.v, self.dim)


def check_radius(manifold: Manifold, v: Tensor, dim: int) -> None:
    """Raise where ball coordinates cannot hold a point with normal coordinates v.

    The check looks at data, so it is left out of compiled graphs; points beyond the limit end at it there.
    """
    if torch.compiler.is_compiling():
        return
    leaves = manifold.leaves()
    for leaf, x in zip(leaves, v.detach().split([leaf.channels for leaf in leaves], dim), strict=True):
        if isinstance(leaf, PoincareBall):
            axis = dim - v.ndim if dim >= 0 else dim
            radius2 = leaf.c * x.unflatten(axis, (leaf.balls, -1)).square().sum(axis)
            limit = MAX_RADIUS[v.dtype]
            if radius2.numel() and bool((radius2 > limit**2).any()):
                raise UserError(
                    f"A sample lies at √c·r = {float(radius2.max()) ** 0.5:.1f}, but ball coordinates end at {limit:g} "
                    f"in {v.dtype}. Use its normal coordinates (Draw.v, rsample_tangent), a smaller scale or "
                    "curvature, or float64, which reaches 34."
                )


class ManifoldDistribution(ABC):
    """A distribution on a manifold with a mean; densities are with respect to the Riemannian volume.

    Args:
        manifold: where it lives.
        loc: normal coordinates m of the mean: the mean is `manifold.from_tangent(loc)`. Shape (*B, C, …).
        dim: the axis of the C coordinates.

    Samples have `sample_shape` in front of the shape of `loc`; log densities and KLs have the axis `dim` removed.
    Log densities of several points or positions add up; that sum is left to the caller.
    """

    is_centred = False
    """Known to have its mean at the origin, where frame vectors are normal coordinates."""

    def __init__(self, manifold: Manifold, loc: Tensor, dim: int = -1) -> None:
        self.manifold = manifold
        self.loc = loc.float() if loc.dtype in (torch.float16, torch.bfloat16) else loc
        # counted from the end, so that sample axes may be put in front
        self.dim = dim - loc.ndim if dim >= 0 else dim

    @staticmethod
    @abstractmethod
    def scale_channels(manifold: Manifold) -> int:
        """How many scales a point needs: the size of `scale` along `dim`, for whoever builds an encoder."""

    @abstractmethod
    def draw(self, generator: Generator | Tensor | None = None, sample_shape: tuple[int, ...] = ()) -> Draw:
        """A sample with gradients to location, scale and curvature, in all its representations.

        Args:
            generator: source of randomness, or standard normal numbers (*S, *B, C, …) to take instead.
            sample_shape: S.
        """

    @abstractmethod
    def log_prob_draw(self, draw: Draw) -> Tensor:
        """Log density of a sample that *this* distribution drew; `dim` is summed away."""

    @abstractmethod
    def log_normalizer(self) -> Tensor:
        """Minus the logarithm of the density's constant factor; `dim` is summed away."""

    @abstractmethod
    def kl_to_centred(
        self, prior_scale: float | Tensor, sample: Draw | None = None, generator: Generator | None = None
    ) -> Tensor:
        """KL to the distribution of the same family with mean 0 and one scale; `dim` is summed away.

        A one-sample estimate of low variance, unbiased, 0-variance as c → 0.

        Args:
            prior_scale: σ₀ > 0, a number or a tensor of shape ().
            sample: a draw of this distribution to reuse; without it a new one is drawn.
            generator: randomness of the new draw.
        """

    @abstractmethod
    def centred(self, prior_scale: float | Tensor) -> "ManifoldDistribution":
        """The prior: the same family, shapes and dtype with mean 0 and one scale."""

    def log_prob_normal(self, v: Tensor) -> Tensor:
        """Log density at the point with normal coordinates v; `dim` is summed away."""
        w = v if self.is_centred else self.manifold.add_normal(-self.loc, v, self.dim)
        return self.log_prob_draw(Draw(self.manifold, self.dim, w, v))

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density at a point, with respect to the Riemannian volume; `dim` is summed away."""
        return self.log_prob_normal(self.manifold.to_tangent(z, self.dim))

    def rsample_tangent(self, generator: Generator | None = None, sample_shape: tuple[int, ...] = ()) -> Tensor:
        """Normal coordinates of a sample."""
        return self.draw(generator, sample_shape).v

    def rsample(self, generator: Generator | None = None, sample_shape: tuple[int, ...] = ()) -> Tensor:
        """A sample as a point."""
        return self.draw(generator, sample_shape).z

    def kl_monte_carlo(
        self, prior_scale: float | Tensor, sample: Draw | None = None, generator: Generator | None = None
    ) -> Tensor:
        """log q(z) − log p(z) at one sample: the plain estimator, for comparison with `kl_to_centred`."""
        draw = self.draw(generator) if sample is None else sample
        return self.log_prob_draw(draw) - self.centred(prior_scale).log_prob_normal(draw.v)

    def _noise(self, generator: Generator | Tensor | None, sample_shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers, (*S, *B, C, …): one call for all factors, so every geometry sees the same."""
        if isinstance(generator, Tensor):
            return generator
        return torch.randn(
            (*sample_shape, *self.loc.shape), generator=generator, dtype=self.loc.dtype, device=self.loc.device
        )
