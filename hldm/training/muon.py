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
            weights: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            self._adam([p for p in weights if p.ndim < 2], group)
            matrices: dict[tuple[int, int], list[Tensor]] = {}
            for weight in weights:
                if weight.ndim >= 2:
                    matrices.setdefault((len(weight), weight[0].numel()), []).append(weight)
            for shape, alike in matrices.items():
                self._muon(alike, shape, group)

    def _muon(self, weights: list[Tensor], shape: tuple[int, int], group: dict[str, Any]) -> None:
        """Weights of one shape at once: on a GPU, starting the operations takes longer than they do."""
        share = 1 - group["momentum"]
        gradients = [_gradient(weight) for weight in weights]
        for weight in weights:
            if not (state := self.state[weight]):
                state["momentum"] = torch.zeros_like(weight)
        momenta = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_lerp_(momenta, gradients, share)
        ahead = torch.stack([step.reshape(shape) for step in torch._foreach_lerp(momenta, gradients, share)])
        steps = [step.view_as(weight) for step, weight in zip(orthogonal(ahead), weights, strict=True)]
        torch._foreach_add_(weights, steps, alpha=-group["lr"] * STEP_SIZE * math.sqrt(max(shape)))

    def _adam(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        if not weights:
            return
        states, (beta1, beta2) = [self.state[weight] for weight in weights], group["betas"]
        for state, weight in zip(states, weights, strict=True):
            if not state:
                state.update(step=0, mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
            state["step"] += 1
        gradients = [_gradient(weight) for weight in weights]
        means, squares = [[state[name] for state in states] for name in ("mean", "square")]
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        deviations = torch._foreach_div(squares, [1 - beta2 ** state["step"] for state in states])
        torch._foreach_sqrt_(deviations)
        torch._foreach_add_(deviations, group["eps"])
        rates = [-group["lr"] / (1 - beta1 ** state["step"]) for state in states]
        torch._foreach_addcdiv_(weights, means, deviations, rates)


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad


def orthogonal(matrices: Tensor) -> Tensor:
    """UΣVᵀ (…, m, n) → about UVᵀ: singular values between 0.01 and 1 of the Frobenius norm become 0.7 to 1.2.

    Five steps of the Newton–Schulz iteration X ← QX, Q = a + bA + cA², A = XXᵀ, with the coefficients of Jordan et al.
    (2024), which climb from small singular values as fast as can be and do not converge to 1. The products of all Q are
    multiplied before X is: they are square, of the shorter side.
    """
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    gram, product = x @ x.mT, None
    for step in range(1, NEWTON_SCHULZ_STEPS + 1):
        q = -4.7750 * gram + 2.0315 * (gram @ gram)
        q.diagonal(dim1=-2, dim2=-1).add_(3.4445)
        product = q if product is None else q @ product
        if step < NEWTON_SCHULZ_STEPS:
            gram = q @ gram @ q
    assert product is not None
    x = product @ x
    return x.mT if is_tall else x
