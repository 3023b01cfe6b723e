"""The interface of a latent distribution: draws, densities, and the KL to a centred prior.

Legend: a point has C coordinates along `dim`; all other axes are batch axes. `m` are the normal coordinates of the
mean, `w` a frame vector at the mean, `v` normal coordinates of a sample, `z` the same sample as a point.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from hldm.errors import UserError
from hldm.geometry import Manifold
from hldm.geometry.forms import compiling
from hldm.geometry.ops import MAX_RADIUS, promote


@dataclass(frozen=True)
class Draw:
    """A reparametrised sample. Keep it where both the sample and its KL or density are needed: nothing is inverted.

    Attributes:
        w: (*S, *B, C, …) frame vector at the mean that leads to the sample.
        v: same shape, normal coordinates of the sample.
    """

    manifold: Manifold
    dim: int
    w: Float[Tensor, "*S"]
    v: Float[Tensor, "*S"]

    @property
    def z(self) -> Float[Tensor, "..."]:
        """The sample as a point, same shape; refused where the number format has no coordinates for it."""
        check_radius(self.manifold, self.v, self.dim)
        return self.manifold.from_tangent(self.v, self.dim)


def check_radius(manifold: Manifold, v: Tensor, dim: int) -> None:
    """Raise where ball coordinates cannot hold a point with normal coordinates v.

    The check looks at data, so it is left out of compiled graphs; points beyond the limit end at it there.
    """
    if compiling():
        return
    limit = MAX_RADIUS[v.dtype]
    for radius2 in _squared_radii(manifold, v, dim):
        if bool((radius2 > limit**2).any()):
            wider = "" if v.dtype == torch.float64 else ", or float64, which reaches 34"
            raise UserError(
                f"A sample lies at √c·r = {float(radius2.max()) ** 0.5:.1f}, but ball coordinates end at {limit:g} "
                f"in {v.dtype}. Use its normal coordinates (Draw.v, rsample_tangent), or a smaller scale or "
                f"curvature{wider}."
            )


def check_on_manifold(manifold: Manifold, z: Tensor, dim: int) -> None:
    """Raise where z is not a point; left out of compiled graphs like `check_radius`."""
    if compiling():
        return
    for s in _squared_radii(manifold, z, dim):
        if not bool((s < 1).all()):
            raise ValueError(
                f"z has c|z|² = {float(s.max()):g} on a ball, whose points have c|z|² < 1. Take points that this "
                "manifold made (from_tangent, rsample), bring others inside with its `project`, or use log_prob_normal "
                "with normal coordinates, which have no such bound."
            )


def check_scale(scale: float | Tensor, name: str, dtype: torch.dtype) -> None:
    """Raise where a standard deviation is not a positive number of that format; a tensor not in compiled graphs."""
    if not isinstance(scale, Tensor):
        low = high = float(scale)
    elif compiling() or not scale.numel():
        return
    else:
        low, high = (float(end) for end in torch.aminmax(scale.detach()))
    limits = torch.finfo(dtype)
    if not limits.tiny <= low <= high <= limits.max:  # nan is in no interval
        raise ValueError(
            f"{name} lies in [{low:g}, {high:g}], but standard deviations are > 0 (in {dtype} at least "
            f"{limits.tiny:.1g}) and finite. Where a network makes them, end it in a softplus or an exp; if it did and "
            "they are nan, training diverged before."
        )


def _squared_radii(manifold: Manifold, x: Tensor, dim: int) -> Iterator[Tensor]:
    """c|x|² on every ball, one tensor for each curved leaf that is not empty; no gradient."""
    for leaf, piece in manifold.pieces(x.detach(), dim):
        if not leaf.is_flat and piece.numel():
            view, axis = leaf.by_ball(piece, dim)
            yield leaf.c * view.square().sum(axis)


class ManifoldDistribution(ABC):
    """A distribution on a manifold with a mean; densities are with respect to the Riemannian volume.

    Args:
        manifold: where it lives.
        loc: normal coordinates m of the mean: the mean is `manifold.from_tangent(loc)`. Shape (*B, C, …).
        dim: the axis of the C coordinates.
        validate_args: look at the numbers too, not only at shapes: `ValueError` where a location is not finite, a scale
            not > 0, or a point not on the manifold. This costs some 40 µs (on a GPU it waits for the numbers) and is
            left out of compiled graphs. A model that makes right arguments by construction turns it off.

    Samples have `sample_shape` in front of the shape of `loc`; log densities and KLs have the axis `dim` removed.
    Log densities of several points or positions add up; that sum is left to the caller.
    """

    is_centred = False
    """Known to have its mean at the origin, where frame vectors are normal coordinates."""

    scale_rule: str
    """The end of an error about scales: which parts of a point have a scale each, and which family has other scales."""

    def __init__(self, manifold: Manifold, loc: Tensor, dim: int = -1, validate_args: bool = True) -> None:
        self.manifold = manifold
        # counted from the end, so that sample axes may be put in front
        self.dim = dim - loc.ndim if dim >= 0 else dim
        self.validate_args = validate_args
        self._check_channels(loc, "loc")
        if not loc.is_floating_point():
            raise ValueError(f"loc is of {loc.dtype}, but coordinates are floating-point numbers: use loc.float().")
        self.loc = promote(loc)
        if validate_args and not compiling() and not bool(self.loc.detach().isfinite().all()):
            raise ValueError(
                "loc has entries that are nan or infinite, but the normal coordinates of a mean are finite. Where a "
                "network makes them, training diverged before: try a lower learning rate or gradient clipping."
            )

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
    def log_prob_draw(self, draw: Draw) -> Float[Tensor, "..."]:
        """Log density of a sample that *this* distribution drew; `dim` is summed away."""

    @abstractmethod
    def log_normalizer(self) -> Float[Tensor, "..."]:
        """Minus the logarithm of the density's constant factor; `dim` is summed away."""

    @abstractmethod
    def kl_to_centred(
        self, prior_scale: float | Tensor, sample: Draw | None = None, generator: Generator | None = None
    ) -> Float[Tensor, "..."]:
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

    def log_prob_normal(self, v: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Log density at the point with normal coordinates v; `dim` is summed away."""
        self._check_channels(v, "v")
        w = v if self.is_centred else self.manifold.add_normal(-self.loc, v, self.dim)
        return self.log_prob_draw(Draw(self.manifold, self.dim, w, v))

    def log_prob(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Log density at a point, with respect to the Riemannian volume; `dim` is summed away."""
        self._check_channels(z, "z")
        if self.validate_args:
            check_on_manifold(self.manifold, promote(z), self.dim)
        return self.log_prob_normal(self.manifold.to_tangent(z, self.dim))

    def rsample_tangent(
        self, generator: Generator | Tensor | None = None, sample_shape: tuple[int, ...] = ()
    ) -> Float[Tensor, "..."]:
        """Normal coordinates of a sample."""
        return self.draw(generator, sample_shape).v

    def rsample(self, generator: Generator | None = None, sample_shape: tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        """A sample as a point."""
        return self.draw(generator, sample_shape).z

    def kl_monte_carlo(
        self, prior_scale: float | Tensor, sample: Draw | None = None, generator: Generator | None = None
    ) -> Float[Tensor, "..."]:
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

    def _check_channels(self, x: Tensor, name: str) -> None:
        c, dim = self.manifold.channels, self.dim
        if not -x.ndim <= dim < 0 or x.shape[dim] != c:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}, but a point of this manifold has {c} coordinates, along axis "
                f"{dim}. Say with dim=… which axis has size {c}, or take a manifold of other channels."
            )

    def _fitted(self, scale: float | Tensor) -> Tensor:
        """The scale with as many axes as `loc`, and 1 or `scale_channels` entries along `dim`."""
        wanted = list(self.loc.shape)
        wanted[self.dim] = self.scale_channels(self.manifold)
        fitted = self._number(scale, "scale")
        given = [1] * (len(wanted) - fitted.ndim) + list(fitted.shape)
        if len(given) > len(wanted) or any(a not in (1, b) for a, b in zip(given, wanted, strict=True)):
            raise ValueError(
                f"scale has shape {tuple(fitted.shape)}, but a {type(self).__name__} on this manifold takes "
                f"{wanted[self.dim]} scales per point or one: a number, or what broadcasts to {tuple(wanted)}. "
                f"{self.scale_rule}"
            )
        return fitted.reshape(given)

    def _prior_scale(self, prior_scale: float | Tensor) -> Tensor:
        """σ₀ of shape ()."""
        number = self._number(prior_scale, "prior_scale")
        if number.ndim:
            raise ValueError(
                f"prior_scale has shape {tuple(number.shape)}, but a prior has one scale: a number, or a tensor of "
                "shape ()."
            )
        return number

    def _number(self, scale: float | Tensor, name: str) -> Tensor:
        """A scale in the format of `loc`; plain numbers are always checked, because that takes no time."""
        number = torch.as_tensor(scale, dtype=self.loc.dtype, device=self.loc.device)
        if self.validate_args or not isinstance(scale, Tensor):
            check_scale(number if isinstance(scale, Tensor) else scale, name, self.loc.dtype)
        return number
