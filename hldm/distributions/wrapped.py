"""The wrapped normal: a Gaussian in the tangent space at the mean, carried to the manifold by exp.

Nagano et al. (2019), section 3; Mathieu et al. (2019), eq. 6. See `base` for the legend.
"""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from hldm.distributions.base import Draw, ManifoldDistribution
from hldm.geometry import Manifold


class WrappedNormal(ManifoldDistribution):
    """z = exp_μ(w), w ~ N(0, Σ) in the orthonormal frame at μ that is transported from the origin, Σ diagonal.

        log q(z) = log N(w; 0, Σ) − (n − 1) log(sinh(√c|w|)/(√c|w|)),   |w| = d(μ, z)

    As c → 0, and on Euclidean factors, this is N(m, Σ) in normal coordinates.

    Args:
        manifold: where it lives.
        loc: (*B, C, …) normal coordinates of the mean, on all factors at once.
        scale: standard deviations > 0 in the frame, a number or a tensor that broadcasts against `loc`.
        dim: the axis of the C coordinates.
        validate_args: as in `ManifoldDistribution`.

    In float32 it holds for √c σ √n ≤ 12.
    """

    scale_rule = "Every coordinate has its own; for one scale per ball use a RiemannianNormal."

    def __init__(
        self, manifold: Manifold, loc: Tensor, scale: Tensor | float, dim: int = -1, validate_args: bool = True
    ) -> None:
        super().__init__(manifold, loc, dim, validate_args)
        self.scale = self._fitted(scale).expand_as(self.loc)

    @staticmethod
    def scale_channels(manifold: Manifold) -> int:
        """How many scales a point needs: one for each coordinate."""
        return manifold.channels

    def draw(self, generator: Generator | Tensor | None = None, sample_shape: tuple[int, ...] = ()) -> Draw:
        w = self.scale * self._noise(generator, sample_shape)
        return Draw(self.manifold, self.dim, w, self.manifold.add_normal(self.loc, w, self.dim))

    def log_prob_draw(self, draw: Draw) -> Float[Tensor, "..."]:
        gaussian = -0.5 * (draw.w / self.scale).square().sum(self.dim) - self.log_normalizer()
        return gaussian - self.manifold.log_volume(draw.w, self.dim)

    def log_normalizer(self) -> Float[Tensor, "..."]:
        """log √det 2πΣ; `dim` is summed away. It does not depend on c."""
        return (self.scale.log() + 0.5 * math.log(2 * math.pi)).sum(self.dim)

    def centred(self, prior_scale: float | Tensor) -> "WrappedNormal":
        scale = self._prior_scale(prior_scale)
        prior = WrappedNormal(self.manifold, torch.zeros_like(self.loc), scale, self.dim, validate_args=False)
        prior.is_centred, prior.validate_args = True, self.validate_args
        return prior

    def kl_to_centred(
        self, prior_scale: float | Tensor, sample: Draw | None = None, generator: Generator | None = None
    ) -> Float[Tensor, "..."]:
        """KL(q ‖ WN(0, σ₀²)); `dim` is summed away.

            KL = KL(N(m, Σ) ‖ N(0, σ₀²I)) + E[(|v|² − |m + w|²)/2σ₀² + log_volume(v) − log_volume(w)]

        The Gaussian part is exact; only what curvature adds is sampled, and that tends to 0 with c.
        """
        draw = self.draw(generator) if sample is None else sample
        prior_scale = self._prior_scale(prior_scale)
        ratio2 = (self.scale / prior_scale).square()
        gaussian = 0.5 * (ratio2 + (self.loc / prior_scale).square() - 1 - ratio2.log()).sum(self.dim)
        # On a flat factor v = m + w and both terms below are exactly 0.
        flat2 = (self.loc + draw.w).square()
        radial = 0.5 * (draw.v.square() - flat2).sum(self.dim) / prior_scale.square()
        volume = self.manifold.log_volume(draw.v, self.dim) - self.manifold.log_volume(draw.w, self.dim)
        return gaussian + radial + volume
