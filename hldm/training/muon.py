"""Muon: momentum whose matrices are made orthogonal before they are added to the weights."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

NEWTON_SCHULZ_STEPS = 5

STEP_SIZE = 0.6
"""Root mean square of a step of rate 1: 0.2 is AdamW's in long runs of large models (Liu et al. 2025), and in the first
hundreds of steps of small ones, where gradients agree, it is nearer to 1."""


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for weights that are matrices or kernels, AdamW for all others.

        M ← μM + (1 − μ)G,   W ← (1 − ηλ)W − η · 0.6 √max(m, n) · orthogonal((1 − μ)G + μM),   W of m × n

    A kernel of a convolution is the matrix of its output channels by all the rest. `orthogonal` replaces the singular
    values by about 1, so that every direction of a matrix moves alike. √max(m, n) makes up for the shape: the root mean
    square of a step is `STEP_SIZE` · η for every matrix, as it is for AdamW, and one learning rate serves both.
    torch.optim.Muon takes no kernels and works in bfloat16, which is slow on processors.

    Args:
        params: all weights, those of no or one axis included.
        lr: η.
        betas: of AdamW's moments.
        momentum: μ.
        weight_decay: λ, of all weights.
        eps: of AdamW.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        eps: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "momentum": momentum, "weight_decay": weight_decay, "eps": eps}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]  # never a closure here
        assert closure is None
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            for weight in weights:
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                if weight.ndim < 2:
                    self._adam(weight, group)
                else:
                    self._muon(weight, group)

    def _muon(self, weight: nn.Parameter, group: dict[str, Any]) -> None:
        assert weight.grad is not None
        state, share = self.state[weight], 1 - group["momentum"]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(weight.grad, share)
        ahead = torch.lerp(state["momentum"], weight.grad, share).flatten(1)
        step = orthogonal(ahead).view_as(weight)
        weight.add_(step, alpha=-group["lr"] * STEP_SIZE * math.sqrt(max(ahead.shape)))

    def _adam(self, weight: nn.Parameter, group: dict[str, Any]) -> None:
        assert weight.grad is not None
        state, (beta1, beta2) = self.state[weight], group["betas"]
        if not state:
            state.update(step=0, mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
        state["step"] += 1
        state["mean"].lerp_(weight.grad, 1 - beta1)
        state["square"].lerp_(weight.grad.square(), 1 - beta2)
        deviation = (state["square"] / (1 - beta2 ** state["step"])).sqrt_().add_(group["eps"])
        weight.addcdiv_(state["mean"], deviation, value=-group["lr"] / (1 - beta1 ** state["step"]))


def orthogonal(matrix: Tensor) -> Tensor:
    """UΣVᵀ (m, n) → about UVᵀ: singular values between 0.01 and 1 of the Frobenius norm become 0.7 to 1.2.

    Five steps of the Newton–Schulz iteration X ← aX + (bA + cA²)X, A = XXᵀ, with the coefficients of Jordan et al.
    (2024), which climb from small singular values as fast as can be and do not converge to 1.
    """
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        a = x @ x.T
        x = torch.addmm(x, torch.addmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.T if matrix.shape[0] > matrix.shape[1] else x
