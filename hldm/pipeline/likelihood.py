"""The marginal likelihood p(x) = ∫ p(x | z) p(z) dz of an autoencoder with one latent point per image.

Legend: B images; S samples of each image's posterior; J nodes that all images share; `v` normal coordinates, (…, n).
"""

import ctypes
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Generator, Tensor

from hldm.autoencoder import VariationalAutoencoder
from hldm.geometry import is_plane
from hldm.run import stop

FloatArray = npt.NDArray[np.float64]

MEMORY = 2**20
"""Numbers in the largest array of a chunk: 4 MiB in float32, which a processor's cache holds.

For quadrature chunks are four times larger, because each is multiplied with all images and so reads them all anyway."""

MOST_NODES = 2**24
"""Nodes of a quadrature rule at most: to make them and their prior takes about 1.5 GiB."""

MOST_PRODUCTS = 2**44
"""Products of a node's and an image's number at most: about a quarter of an hour of one core."""

MOST_RINGS = 2048
"""Rings at most: numpy finds the radii of as many in seconds, with a time that grows with their third power."""


class Rings(NamedTuple):
    """Circles around the origin of a plane of curvature −c, Gauss–Legendre in the radius: arrays of one length."""

    radii: FloatArray
    widths: FloatArray
    """Weights of the rule in the radius."""

    circumferences: FloatArray
    counts: FloatArray
    """How many nodes lie on each; infinite where the circumference is beyond float64."""


class Nodes(NamedTuple):
    """A quadrature rule on a plane of curvature −c, for densities with respect to the Riemannian volume."""

    v: Tensor
    """(J, 2) normal coordinates."""

    log_weight: Tensor
    """(J,)."""


class MarginalLikelihood:
    """−log p(x) of test images in nats: by quadrature where latents are points of a plane, else by importance sampling.

    Args:
        images: how many of the test images.
        importance_samples: S of `importance_sampling`, 5,000 in Mathieu et al. (2019) and Burda et al. (2016).
        checked_images: where quadrature gives the figure, the first so many go by importance sampling too; at least 2.
        spacing: distance of neighbouring quadrature nodes; the coarser rule that estimates its error has twice it.
    """

    def __init__(self, *, images: int, importance_samples: int, checked_images: int, spacing: float) -> None:
        self.images = images
        self.importance_samples = importance_samples
        self.checked_images = checked_images
        self.spacing = spacing

    @torch.no_grad()
    def __call__(self, autoencoder: VariationalAutoencoder, images: Tensor, generator: Generator) -> dict[str, float]:
        """Means over images (B, *image shape), as the autoencoder takes them.

        Returns:
            nll: −log p(x), and nll_sd over the images.
            nll_error: how much it changes with the coarser rule; by importance sampling, its standard error over the
                images' samples (its bias, which is positive, can be larger, as nll_importance shows).
            nll_importance: where quadrature gives nll, what importance sampling would: nll and the mean gap between
                the two on the checked images; nll_importance_error: the gap's standard error over images. Both are
                left out where quadrature is beyond `MOST_NODES`, `MOST_PRODUCTS` or `MOST_RINGS`: a line says so.
        """
        images = images[: self.images]
        if (reach := self._quadrature_reach(autoencoder, images)) is None:
            log_p, variance = importance_sampling(autoencoder, images, self.importance_samples, generator)
            error = float(variance.mean().sqrt()) / math.sqrt(len(images))
            return {"nll": -float(log_p.mean()), "nll_sd": float(log_p.std()), "nll_error": error}
        log_p, coarse = (quadrature(autoencoder, images, reach, self.spacing * f) for f in (1, 2))
        checked = images[: self.checked_images]
        by_sampling, _ = importance_sampling(autoencoder, checked, self.importance_samples, generator)
        gap = log_p[: len(checked)] - by_sampling
        return {
            "nll": -float(log_p.mean()),
            "nll_sd": float(log_p.std()),
            "nll_error": abs(float((log_p - coarse).mean())),
            "nll_importance": float(gap.mean() - log_p.mean()),
            "nll_importance_error": float(gap.std()) / math.sqrt(len(gap)),
        }

    def _quadrature_reach(self, autoencoder: VariationalAutoencoder, images: Tensor) -> Tensor | None:
        """`posterior_reach`, or None where there is no quadrature: in other spaces than a plane, or beyond the bounds.

        The area of a disk grows like e^(√c·r), and the nodes with it. A line says where they are too many.
        """
        if not is_plane(autoencoder.manifold) or len(autoencoder.latent_shape) > 1:
            return None
        reach = posterior_reach(autoencoder, images)
        if fits(autoencoder, reach, self.spacing):
            return reach
        c = plane_curvature(autoencoder)
        print(
            f"    likelihood: quadrature out to a distance of {float(reach.max()):.3g} at curvature {c:.3g} would take "
            "too many nodes, so the figure is by importance sampling alone",
            flush=True,
        )
        return None


def importance_sampling(
    autoencoder: VariationalAutoencoder, images: Tensor, samples: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """log (1/S) Σ p(x | z_s) p(z_s)/q(z_s | x), z_s ~ q, and its estimated variance, each (B,) in float64.

    Burda et al. (2016), eq. 8. In chunks of images and samples, so that memory does not grow with either.
    """
    pixels = math.prod(autoencoder.image_shape)
    at_once = max(1, min(len(images), MEMORY // (samples * pixels)))
    per_chunk = max(1, min(samples, MEMORY // (at_once * pixels)))
    estimates, variances = (torch.empty(len(images), dtype=torch.float64, device=images.device) for _ in range(2))
    for first in track(range(0, len(images), at_once), description="  likelihood"):
        stop.check()
        batch = images[first : first + at_once]
        loc, scale = autoencoder.posterior_parameters(batch)
        posterior, prior = autoencoder.distribution(loc, scale), autoencoder.prior(loc)
        log_weights = []
        for start in range(0, samples, per_chunk):
            draw = posterior.draw(generator, (min(per_chunk, samples - start),))
            log_weight = autoencoder.log_likelihood(draw.v, batch) + prior.log_prob_normal(draw.v)
            log_weights.append((log_weight - posterior.log_prob_draw(draw)).double())
        log_weight = torch.cat(log_weights)
        total = log_weight.logsumexp(0)
        estimates[first : first + at_once] = total - math.log(samples)
        # the delta method: Var log mean w ≈ Var w/(S mean² w)
        share = (log_weight - total).exp()
        variances[first : first + at_once] = (share - 1 / samples).square().sum(0)
        return_free_memory()
    return estimates, variances


def return_free_memory() -> None:
    """Hand free memory back to the system, where the C library offers that.

    The heap of glibc before 2.38 does not use the place of an aligned array again for one of the same size: with 10,000
    images it grew to 3 GB, of which 0.3 were in use.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def posterior_reach(autoencoder: VariationalAutoencoder, images: Tensor) -> Tensor:
    """(B,) how far from the origin p(x | z) p(z) has to be looked at.

    Five standard deviations beyond the encoder's mean; no less than 99 % of the images have, for those that the encoder
    puts in the wrong place.
    """
    loc, scale = autoencoder.posterior_parameters(images)
    reach = loc.norm(dim=1) + 5 * scale.amax(1)
    return reach.clamp(min=reach.quantile(0.99))


def plane_curvature(autoencoder: VariationalAutoencoder) -> float:
    """c of the plane that the latents lie in, 0 where it is Euclidean."""
    return float(autoencoder.manifold.leaves()[0].curvatures())


def rings(c: float, radius: float, spacing: float) -> Rings:
    """The circles out to `radius`, about `spacing` apart, with as many nodes as their circumference asks for."""
    x, w = np.polynomial.legendre.leggauss(math.ceil(radius / spacing))
    radii, widths = 0.5 * radius * (x + 1), 0.5 * radius * w
    with np.errstate(over="ignore"):
        circumferences = 2 * math.pi * (np.sinh(math.sqrt(c) * radii) / math.sqrt(c) if c else radii)
    return Rings(radii, widths, circumferences, np.maximum(8, np.ceil(circumferences / spacing)))


def fits(autoencoder: VariationalAutoencoder, reach: Tensor, spacing: float) -> bool:
    """Whether quadrature for images with this reach, (B,), is within the bounds of memory and time. It only counts."""
    radius = float(reach.max())
    if not radius / spacing <= MOST_RINGS:  # nor where it is not a number
        return False
    rule = rings(plane_curvature(autoencoder), radius, spacing)
    met = (reach.cpu().double().unsqueeze(1) >= torch.from_numpy(rule.radii)).sum(0).numpy()
    products = math.prod(autoencoder.image_shape) * (rule.counts * np.maximum(1, met)).sum()
    return bool(rule.counts.sum() <= MOST_NODES and products <= MOST_PRODUCTS)


def nodes(autoencoder: VariationalAutoencoder, radius: float, spacing: float) -> Nodes:
    """The nodes of `rings`, which are turned against each other by the golden ratio.

        ∫ f dvol = ∫₀ᴿ ∫₀^{2π} f(r, θ) sinh(√c r)/√c dθ dr

    The rule in θ is exact for trigonometric polynomials.
    """
    rule = rings(plane_curvature(autoencoder), radius, spacing)
    points, log_weights = [], []
    for i, (r, width, circumference, nodes_here) in enumerate(zip(*rule, strict=True)):
        count = int(nodes_here)
        angle = 2 * math.pi * (torch.arange(count, dtype=torch.float64) / count + 0.618034 * i)
        points.append((r * torch.stack([angle.cos(), angle.sin()], 1)).float())
        log_weights.append(torch.full((count,), math.log(width * circumference / count)))
    device = next(autoencoder.parameters()).device
    return Nodes(torch.cat(points).to(device), torch.cat(log_weights).to(device))


def quadrature(autoencoder: VariationalAutoencoder, images: Tensor, reach: Tensor, spacing: float) -> Tensor:
    """log Σ_j w_j p(x | z_j) p(z_j) of every image over the nodes within its reach, (B,) in float64.

    The area of a disk grows exponentially with its radius, and few images reach far: they come first, and the outer
    rings meet no others.
    """
    order = reach.argsort(descending=True)
    images, reach = images[order], reach[order]
    rule = nodes(autoencoder, float(reach[0]), spacing)
    log_measure = rule.log_weight + autoencoder.prior(rule.v).log_prob_normal(rule.v)
    total = torch.full((len(images),), -math.inf, dtype=torch.float64, device=images.device)
    per_chunk = max(1, 4 * MEMORY // max(len(images), math.prod(autoencoder.image_shape)))
    chunks = list(zip(rule.v.split(per_chunk), log_measure.split(per_chunk), strict=True))
    for v, measure in track(chunks, description="  likelihood"):
        stop.check()
        met = int((reach >= v[0].norm()).sum())
        log_joint = autoencoder.log_likelihood(v, images[:met]) + measure.unsqueeze(1)
        total[:met] = torch.logaddexp(total[:met], log_joint.logsumexp(0).double())
    return torch.empty_like(total).scatter_(0, order, total)
