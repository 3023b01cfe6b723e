"""Exponential moving average of the weights, with the warm-up that keeps the first steps from dominating."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from hldm.nn.embedding import is_point


class Ema:
    """θ̄ ← d·θ̄ + (1 − d)·θ with d = min(decay, (1 + k) / (10 + k)) at update k.

    A point on a manifold moves the share 1 − d of the way along the geodesic from θ̄ to θ; as c → 0 this becomes the
    formula above. The warm-up is that of the reference latent diffusion code: without it, a run of a thousand steps
    would still carry its initial weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        pairs = list(zip(self.model.parameters(), model.parameters(), strict=True))
        averages: list[Tensor] = [average for average, _ in pairs if not is_point(average)]
        weights: list[Tensor] = [weight for _, weight in pairs if not is_point(weight)]
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for point, target in pairs:
            if is_point(point):
                manifold: Any = point.manifold  # type: ignore[attr-defined]  # geoopt's, on its parameters
                share = torch.tensor(1 - decay, dtype=point.dtype, device=point.device)
                point.copy_(manifold.projx(manifold.geodesic(share, point, target)))
        for average, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """The model has the average's weights and buffers while the block runs."""
        self._exchange(model)
        try:
            yield
        finally:
            self._exchange(model)

    def _exchange(self, model: nn.Module) -> None:
        ours, theirs = chain(self.model.parameters(), self.model.buffers()), chain(model.parameters(), model.buffers())
        for one, other in zip(ours, theirs, strict=True):
            one.data, other.data = other.data, one.data

    def state_dict(self) -> dict[str, int | dict[str, Tensor]]:
        return {"updates": self.updates, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, int | dict[str, Tensor]]) -> None:
        self.updates = int(state["updates"])  # type: ignore[arg-type]  # a heterogeneous state dict
        self.model.load_state_dict(state["model"])  # type: ignore[arg-type]  # a heterogeneous state dict
