"""A bound of the images' likelihood with the diffusion model as the prior of the latents.

Likelihoods of latents do not compare across first stages, whose latents have other units; those of images do.
"""

import math
from typing import NamedTuple

import torch
from rich.progress import track
from torch import Tensor

from hldm.autoencoder import VariationalAutoencoder
from hldm.data import Dataset
from hldm.images import to_unit
from hldm.model import LatentDiffusion
from hldm.run import stop
from hldm.training import stream

BATCH = 100


class Bound(NamedTuple):
    """The bound over test images, and of each one, in the order of the split."""

    metrics: dict[str, float]
    per_image: dict[str, list[float]]


@torch.no_grad()
def evidence_bound(model: LatentDiffusion, dataset: Dataset, *, images: int, steps: int, seed: int) -> Bound:
    """Means over the first test images of a bound from one draw of each posterior (Vahdat et al. 2021, eq. 1).

        log p(x | y) ≥ E_q(z|x)[log p(x | z) − log q(z | x) + log p(z | y)],   p(z | y) of `LatentDiffusion.log_density`

    Densities of z are with respect to the Riemannian volume of the autoencoder's manifold. The likelihood of an image
    is the autoencoder's own, the same that its `elbo` speaks of. The estimate is unbiased, up to the solver's error.

    Args:
        images: of the test split, ≥ 2.
        steps: of the solver, four network evaluations each.

    Returns:
        elbo_flow: the bound, in nats per image; elbo_flow_error: its standard error over images.
        elbo_flow_distortion, elbo_flow_rate: −log p(x | z) and log q(z | x) − log p(z | y), whose sum is −elbo_flow.
            Bounds at different rates compare models that say different amounts about an image.
        elbo_flow_bits_per_dim: −elbo_flow in bits per number in an image. These are not the bits/dim of the literature,
            which count 256 levels: the likelihood is a Bernoulli on grey levels, or a normal density.
        elbo_flow_gain: by how much it is above the same estimate with the autoencoder's own prior.
        Of each image: elbo_flow, reconstruction_nll (its distortion) and elbo_flow_rate.
    """
    autoencoder = model.autoencoder
    assert isinstance(autoencoder, VariationalAutoencoder)  # the check refuses others
    n = min(images, len(dataset.test))
    distortions, rates, gains = [], [], []
    for i in track(range(0, n, BATCH), description="  likelihood"):
        stop.check()
        chosen, noise = torch.arange(i, min(i + BATCH, n)), stream(seed, "evidence_bound", i, model.device)
        batch = to_unit(dataset.test.read(chosen).to(model.device))
        labels = dataset.test.labels[chosen].to(model.device)
        loc, scale = autoencoder.posterior_parameters(batch)
        posterior = autoencoder.distribution(loc, scale)
        draw = posterior.draw(noise)
        # one latent of its own per image: (1, B) → (B,)
        log_x = autoencoder.log_likelihood(draw.v.unsqueeze(0), batch)[0]
        log_q = whole_latent(posterior.log_prob_draw(draw))
        log_prior = whole_latent(autoencoder.prior(loc).log_prob_normal(draw.v))
        log_flow = model.log_density(draw.v, labels, steps, noise)
        distortions.append(-log_x.double())
        rates.append((log_q - log_flow).double())
        gains.append((log_flow - log_prior).double())
    distortion, rate = torch.cat(distortions), torch.cat(rates)
    bound = -distortion - rate
    mean = float(bound.mean())
    metrics = {
        "elbo_flow": mean,
        "elbo_flow_error": float(bound.std()) / math.sqrt(len(bound)),
        "elbo_flow_bits_per_dim": -mean / (math.prod(autoencoder.image_shape) * math.log(2)),
        "elbo_flow_gain": float(torch.cat(gains).mean()),
        "elbo_flow_distortion": float(distortion.mean()),
        "elbo_flow_rate": float(rate.mean()),
    }
    of_images = {"elbo_flow": bound, "reconstruction_nll": distortion, "elbo_flow_rate": rate}
    # a thousandth of a nat is far below what separates two models
    return Bound(metrics, {name: [round(value, 3) for value in row.tolist()] for name, row in of_images.items()})


def whole_latent(log_p: Tensor) -> Tensor:
    """Log densities of every position (B, …) → of the whole latent, (B,)."""
    return log_p.reshape(len(log_p), -1).sum(1)
