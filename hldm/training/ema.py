"""Exponential moving average of the weights, with the warm-up that keeps the first steps from dominating."""

import copy

import torch
from torch import Tensor, nn


class Ema:
    """θ̄ ← d·θ̄ + (1 − d)·θ with d = min(decay, (1 + k) / (10 + k)) at update k.

    The warm-up is the one of the reference latent diffusion code: without it, a run of a thousand steps
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
        averages: list[Tensor] = list(self.model.parameters())
        weights: list[Tensor] = list(model.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for average, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)

    def state_dict(self) -> dict[str, int | dict[str, Tensor]]:
        return {"updates": self.updates, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, int | dict[str, Tensor]]) -> None:
        self.updates = int(state["updates"])  # type: ignore[arg-type]  # a heterogeneous state dict
        self.model.load_state_dict(state["model"])  # type: ignore[arg-type]  # likewise
