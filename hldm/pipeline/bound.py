"""A bound of the images' likelihood with the diffusion model as the prior of the latents.

Likelihoods of latents do not compare across first stages, whose latents have other units; those of images do.
"""

import math

import torch
from rich.progress import track
from torch import Tensor

from hldm.autoencoder import VariationalAutoencoder
from hldm.config.metrics import Metrics
from hldm.data import Dataset
from hldm.images import to_unit
from hldm.model import LatentDiffusion
from hldm.training import stream

BATCH = 100


@torch.no_grad()
def evidence_bound(model: LatentDiffusion, dataset: Dataset, settings: Metrics, seed: int) -> dict[str, float]:
    """Means over the first test images of a bound from one draw of each posterior (Vahdat et al. 2021, eq. 1).

        log p(x | y) ≥ E_q(z|x)[log p(x | z) − log q(z | x) + log p(z | y)],   p(z | y) of `LatentDiffusion.log_density`

    Densities of z are with respect to the Riemannian volume of the autoencoder's manifold. The likelihood of an image
    is the autoencoder's own, the same that its `elbo` speaks of. The estimate is unbiased, up to the solver's error.

    Args:
        settings: the section `metrics`, of which `likelihood_images` ≥ 1 and `likelihood_steps` are read.

    Returns:
        elbo_flow: the bound, in nats per image; elbo_flow_error: its standard error over images.
        elbo_flow_bits_per_dim: −elbo_flow in bits per number in an image. These are not the bits/dim of the literature,
            which count 256 levels: the likelihood is a Bernoulli on grey levels, or a normal density.
        elbo_flow_gain: by how much it is above the same estimate with the autoencoder's own prior.
    """
    autoencoder = model.autoencoder
    assert isinstance(autoencoder, VariationalAutoencoder)  # the check refuses others
    n = min(settings.likelihood_images, len(dataset.test))
    bounds, gains = [], []
    for i in track(range(0, n, BATCH), description="  likelihood"):
        chosen, noise = torch.arange(i, min(i + BATCH, n)), stream(seed, "evidence_bound", i, model.device)
        batch = to_unit(dataset.test.read(chosen).to(model.device))
        labels = dataset.test.labels[chosen].to(model.device)
        loc, scale = autoencoder.posterior_parameters(batch)
        posterior = autoencoder.distribution(loc, scale)
        draw = posterior.draw(noise)
        # one latent of its own per image: (1, B) → (B,)
        log_x = autoencoder.log_likelihood(draw.v.unsqueeze(0), batch)[0]
        log_q = per_image(posterior.log_prob_draw(draw))
        log_prior = per_image(autoencoder.prior(loc).log_prob_normal(draw.v))
        log_flow = model.log_density(draw.v, labels, settings.likelihood_steps, noise)
        bounds.append((log_x - log_q + log_flow).double())
        gains.append((log_flow - log_prior).double())
    bound = torch.cat(bounds)
    mean = float(bound.mean())
    return {
        "elbo_flow": mean,
        "elbo_flow_error": float(bound.std()) / math.sqrt(len(bound)),
        "elbo_flow_bits_per_dim": -mean / (math.prod(autoencoder.image_shape) * math.log(2)),
        "elbo_flow_gain": float(torch.cat(gains).mean()),
    }


def per_image(log_p: Tensor) -> Tensor:
    """Log densities of every position (B, …) → of the whole latent, (B,)."""
    return log_p.reshape(len(log_p), -1).sum(1)
