"""The Riemannian normal: density exp(−d(μ, z)²/2σ²)/Z with respect to the Riemannian volume.

Said et al. (2014); Mathieu et al. (2019), eq. 5. See `base` for the legend and `radial` for the law of the radius.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from hldm.distributions.base import Draw, ManifoldDistribution
from hldm.distributions.radial import RadialLaw
from hldm.geometry import Leaf, Manifold


class RiemannianNormal(ManifoldDistribution):
    """Isotropic on every ball and on every Euclidean factor (a *block*): one scale for each.

        log p(z) = −d(μ, z)²/2σ² − log Z,   log Z = log(2π^{n/2}/Γ(n/2)) + n log σ + log I(cσ²)

    with I from `radial`. Samples are a radius and a direction at the mean: the radius by inversion of its distribution
    function at the quantile that |ε| has among Gaussian ε, so a draw moves continuously with c and as c → 0 becomes
    m + σε, the draw of the Gaussian from the same noise.

    Args:
        manifold: where it lives.
        loc: (*B, C, …) normal coordinates of the mean.
        scale: σ > 0, a number or a tensor whose size along `dim` is `scale_channels(manifold)` or 1.
        dim: the axis of the C coordinates.
        validate_args: as in `ManifoldDistribution`.

    Log normaliser and radius hold for n from 1 to 512, σ from 1e-2 to 10, c from 0 to 10; they are computed in float64.
    """

    scale_rule = (
        "Every ball and every Euclidean factor has one (scale_channels counts them); for a scale per coordinate use a "
        "WrappedNormal."
    )

    def __init__(
        self, manifold: Manifold, loc: Tensor, scale: Tensor | float, dim: int = -1, validate_args: bool = True
    ) -> None:
        super().__init__(manifold, loc, dim, validate_args)
        fitted = self._fitted(scale)
        shape = list(fitted.shape)
        shape[self.dim] = self.scale_channels(manifold)
        self.scale = fitted.expand(shape)
        leaves = manifold.leaves()
        scales = self.scale.split([leaf.balls for leaf in leaves], self.dim)
        self._blocks = [
            _Block.of(leaf, s.unflatten(self.dim, (leaf.balls, 1))) for leaf, s in zip(leaves, scales, strict=True)
        ]

    @staticmethod
    def scale_channels(manifold: Manifold) -> int:
        """How many scales a point needs: one for each ball and each Euclidean factor."""
        return sum(leaf.balls for leaf in manifold.leaves())

    def _views(self, x: Tensor) -> list[Tensor]:
        """(*S, *B, C, …) → for every leaf (*S, *B, k, n, …)."""
        pieces = x.split([b.count * b.n for b in self._blocks], self.dim)
        return [p.unflatten(self.dim, (b.count, b.n)) for p, b in zip(pieces, self._blocks, strict=True)]

    def draw(self, generator: Generator | Tensor | None = None, sample_shape: tuple[int, ...] = ()) -> Draw:
        noise = self._noise(generator, sample_shape)
        parts = [
            block.frame_vector(e, self.dim).flatten(self.dim - 1, self.dim)
            for block, e in zip(self._blocks, self._views(noise), strict=True)
        ]
        w = torch.cat(parts, self.dim)
        return Draw(self.manifold, self.dim, w, self.manifold.add_normal(self.loc, w, self.dim))

    def log_normalizer(self) -> Float[Tensor, "..."]:
        """log Z; `dim` is summed away."""
        return self._total([b.log_normalizer() for b in self._blocks]).to(self.loc.dtype)

    def _total(self, terms: list[Tensor]) -> Tensor:
        """Sum over blocks; the block axis and the coordinate axis go."""
        first, *rest = (a.sum((self.dim - 1, self.dim)) for a in terms)
        return sum(rest, first)

    def log_prob_draw(self, draw: Draw) -> Float[Tensor, "..."]:
        views = zip(self._blocks, self._views(draw.w), strict=True)
        return -0.5 * self._total([(w / b.scale).square() for b, w in views]) - self.log_normalizer()

    def centred(self, prior_scale: float | Tensor) -> "RiemannianNormal":
        scale = self._prior_scale(prior_scale)
        prior = RiemannianNormal(self.manifold, torch.zeros_like(self.loc), scale, self.dim, validate_args=False)
        prior.is_centred, prior.validate_args = True, self.validate_args
        return prior

    def kl_to_centred(
        self, prior_scale: float | Tensor, sample: Draw | None = None, generator: Generator | None = None
    ) -> Float[Tensor, "..."]:
        """KL(q ‖ RN(0, σ₀²)); `dim` is summed away.

            KL = log Z₀ − log Z + (|m|² + E[r²])/2σ₀² − E[r²]/2σ² + E[(|v|² − |m + w|²)/2σ₀²]

        Only the last term, which tends to 0 with c, is sampled: ⟨m, w⟩ has mean 0, so |m + w|² has mean |m|² + E[r²].
        """
        draw = self.draw(generator) if sample is None else sample
        prior = self.centred(prior_scale)
        half_precision = 0.5 / torch.as_tensor(prior_scale, dtype=torch.float64, device=self.loc.device).square()
        moment2 = self._total([b.scale.double().square() * b.unit_moment() for b in self._blocks])
        unit_moment = self._total([b.unit_moment() for b in self._blocks])
        log_z, log_z0 = (self._total([b.log_normalizer() for b in d._blocks]) for d in (self, prior))
        exact = log_z0 - log_z + half_precision * (self.loc.double().square().sum(self.dim) + moment2)
        sampled = (draw.v.square() - (self.loc + draw.w).square()).sum(self.dim)
        return (exact - 0.5 * unit_moment).to(self.loc.dtype) + half_precision.to(self.loc.dtype) * sampled


@dataclass
class _Block:
    """The balls of one leaf, or one Euclidean factor: `count` balls of dimension n with scale (*B, count, 1, …)."""

    n: int
    count: int
    scale: Tensor
    law: RadialLaw | None
    """The radial law; None where the block is known to be flat."""

    @classmethod
    def of(cls, leaf: Leaf, scale: Tensor) -> "_Block":
        law = None if leaf.is_flat else RadialLaw(leaf.c * scale.double().square(), leaf.ball_dim)
        return cls(leaf.ball_dim, leaf.balls, scale, law)

    def frame_vector(self, noise: Tensor, dim: int) -> Tensor:
        """σ t ε/|ε| with t at the quantile of |ε|; σε where flat. Noise and result are (*S, *B, count, n, …)."""
        w = self.scale * noise
        if self.law is None:
            return w
        length2 = noise.double().square().sum(dim, keepdim=True)
        u = torch.special.gammainc(torch.full_like(length2, self.n / 2), 0.5 * length2)
        t = self.law.quantile(u.clamp(1e-300, 1 - 1e-16))
        return w * (t / length2.sqrt()).to(w.dtype)

    def log_normalizer(self) -> Float[Tensor, "..."]:
        """log Z of every ball, the shape of `scale`, float64."""
        n, log_scale = self.n, self.scale.double().log()
        if self.law is None:
            return n * log_scale + 0.5 * n * math.log(2 * math.pi)
        sphere = math.log(2) + 0.5 * n * math.log(math.pi) - math.lgamma(n / 2)
        return sphere + n * log_scale + self.law.log_integral()

    def unit_moment(self) -> Tensor:
        """E[r²]/σ² of every ball, the shape of `scale`, float64."""
        if self.law is None:
            return torch.full_like(self.scale, self.n, dtype=torch.float64)
        return self.law.second_moment()
