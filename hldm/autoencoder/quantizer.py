"""A codebook of points on a manifold, and the way from any point to its nearest code.

Legend: N points and K codes of C coordinates; `v` normal coordinates (N, C); `codes` those of the codebook, (K, C).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from hldm.config.autoencoder import VQ
from hldm.geometry import Manifold

MEMORY = 2**24
"""Numbers in the largest array of point × code: 64 MiB in float32."""


class Quantized(NamedTuple):
    """N points after quantisation."""

    v: Tensor
    """(N, C) normal coordinates of the codes; gradients pass to the points unchanged."""

    indices: Tensor
    """(N,) int64."""

    loss: Tensor
    """The squared distances that pull points and codes together, per coordinate."""


class Quantizer(nn.Module):
    """Point → nearest code by geodesic distance (van den Oord et al. 2017, section 3, on a manifold).

        k(v) = argmin_k d(v, e_k),   out = v + sg[e_k − v]
        loss = (commitment_weight · d(v, sg[e_k])² + codebook_weight · d(sg[v], e_k)²) / C,  mean over the points

    Straight-through is in normal coordinates, the tangent space at the origin. On flat space, with a gradient codebook
    and without revival, weights 1 and β are `VectorQuantizer(legacy=True, beta=β)` of diffusers, which latent diffusion
    uses (Rombach et al. 2022), β and 1 the `legacy=False` one, which is the paper's. As c → 0 it tends to that at the
    rate O(c).

    With `codebook="ema"` each code is the running midpoint of its points (van den Oord et al. 2017, appendix A.1): the
    mean on flat factors, the gyro-midpoint on balls. There is then no loss that moves codes.

    Args:
        settings: the section of a VQ autoencoder, of which all that is about the codebook is read. Without
            `initial_batches` codes start uniform in [−1/K, 1/K].
        manifold: of points and codes.
    """

    codes: Tensor
    mass: Tensor
    idle: Tensor
    steps: Tensor

    def __init__(self, settings: VQ, *, manifold: Manifold) -> None:
        super().__init__()
        self.manifold = manifold
        self.codebook = settings.codebook
        self.commitment_weight, self.codebook_weight = settings.commitment_weight, settings.codebook_weight
        self.ema_decay, self.initial_batches = settings.ema_decay, settings.initial_batches
        self.revive_after = settings.revive_after
        codebook_size = settings.codebook_size
        codes = (2 * torch.rand(codebook_size, manifold.channels) - 1) / codebook_size
        if self.codebook == "gradient":
            self.codes = nn.Parameter(codes)
        else:
            self.register_buffer("codes", codes)
            # the weight of the points that a code is the midpoint of
            self.register_buffer("mass", torch.zeros(codebook_size))
        # what the next step needs to know: steps that each code was idle, and steps taken
        self.register_buffer("idle", torch.zeros(codebook_size, dtype=torch.int64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def nearest(self, v: Tensor) -> Tensor:
        """(N, C) → (N,) the index of the nearest code, the first of equals."""
        z, codes = self.manifold.from_tangent(v), self.manifold.from_tangent(self.codes)
        parts = z.split(max(1, MEMORY // len(codes)))
        return torch.cat([self.manifold.pairwise_sqdist(part, codes).argmin(1) for part in parts])

    def forward(self, v: Tensor) -> Quantized:
        """(N, C) points, quantised."""
        indices = self.nearest(v)
        codes = F.embedding(indices, self.codes)
        loss = self.commitment_weight * self._sqdist(v, codes.detach())
        if self.codebook == "gradient":
            loss = loss + self.codebook_weight * self._sqdist(v.detach(), codes)
        return Quantized(v + (codes - v).detach(), indices, loss)

    def _sqdist(self, v: Tensor, codes: Tensor) -> Tensor:
        """Mean squared geodesic distance per coordinate: that of the frame vectors at v that lead to the codes."""
        return self.manifold.add_normal(-v, codes).square().mean()

    @torch.no_grad()
    def prepare(self, v: Tensor, generator: Generator) -> None:
        """Before a training step: place the codes in the first steps, and revive the idle ones after that.

        Args:
            v: (N, C) points of the batch.
            generator: what decides which of them.
        """
        self.steps += 1
        if self.steps <= self.initial_batches:
            dead = torch.arange(len(self.codes), device=v.device)
        elif self.revive_after is not None:
            dead = (self.idle >= self.revive_after).nonzero().squeeze(1)
        else:
            return
        # one order of all points, again and again where there are more codes than points
        order = torch.randperm(len(v), generator=generator, device=v.device)
        self.codes[dead] = v[order[torch.arange(len(dead), device=v.device) % len(v)]].to(self.codes.dtype)
        self.idle[dead] = 0
        if self.codebook == "ema":
            self.mass[dead] = 0

    @torch.no_grad()
    def update(self, v: Tensor, indices: Tensor) -> None:
        """After a training step: count which codes were idle, and move the codes where they are midpoints.

            N_k ← γ N_k + (1 − γ) n_k,   e_k ← midpoint of e_k with weight γ N_k and its n_k points with 1 − γ each

        Args:
            v: (N, C) points of the batch.
            indices: (N,) their codes.
        """
        counts = torch.bincount(indices, minlength=len(self.codes))
        self.idle.copy_(torch.where(counts > 0, 0, self.idle + 1))
        if self.codebook == "gradient":
            return
        old = self.ema_decay * self.mass
        for part in counts.nonzero().squeeze(1).split(max(1, MEMORY // (len(v) + len(self.codes)))):
            chosen = (1 - self.ema_decay) * (indices == part.unsqueeze(1)).to(v.dtype)
            points, weights = torch.cat([self.codes[part], v]), torch.cat([torch.diag(old[part]), chosen], 1)
            self.codes[part] = self.manifold.midpoint(points, weights)
        self.mass.copy_(old + (1 - self.ema_decay) * counts)

    def usage(self, indices: Tensor) -> Tensor:
        """(N,) indices → (K,) share of the points that chose each code."""
        return torch.bincount(indices, minlength=len(self.codes)) / len(indices)


def perplexity(usage: Tensor) -> Tensor:
    """exp(−Σ p log p) of shares p (K,): how many codes are used, K where all are used equally; shape ()."""
    return torch.special.entr(usage).sum().exp()


def used(usage: Tensor) -> Tensor:
    """Share of the codes that at least one point chose; shape ()."""
    return (usage > 0).to(usage.dtype).mean()
