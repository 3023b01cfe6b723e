"""One optimiser for a model of ordinary parameters, of points on balls, and of curvatures that are learned."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hldm.nn.embedding import is_point


class Optimizer:
    """The configured optimiser for ordinary parameters, geoopt's RiemannianAdam (Bécigneul & Ganea 2019) for points.

    RiemannianAdam takes the rates, momenta and ε of the configured optimiser, and no weight decay. Adam has a second
    moment per coordinate and RiemannianAdam one per ball, so its steps would be shorter than Adam's by √n for balls of
    dimension n; its rate is therefore √n times as large. As c → 0 it becomes, with an error of O(c), Adam with one
    second moment per ball in normal coordinates.

    Args:
        parameters: all parameters of the model. Some must be ordinary; points are geoopt's manifold parameters.
        make: makes the configured optimiser from ordinary parameters, with its peak learning rate.
        rates: parameter → a peak learning rate of its own, for ordinary ones that weight decay has no business with:
            log c of a learned curvature. They follow the schedule like all others.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        make: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        rates: Mapping[nn.Parameter, float] | None = None,
    ) -> None:
        rates = rates or {}
        self.parameters = list(parameters)
        self.points = [p for p in self.parameters if is_point(p)]
        ordinary = make([p for p in self.parameters if not is_point(p) and p not in rates])
        self.parts = [ordinary]
        self.peak: float = ordinary.defaults["lr"]
        for parameter, rate in rates.items():
            ordinary.add_param_group({"params": [parameter], "weight_decay": 0.0, "length": rate / self.peak})
        if self.points:
            from geoopt.optim import RiemannianAdam

            groups = [{"params": [p], "length": math.sqrt(p.shape[-1])} for p in self.points]
            shared = {key: ordinary.defaults[key] for key in ("betas", "eps") if key in ordinary.defaults}
            self.parts.append(RiemannianAdam(groups, lr=self.peak, **shared))

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step; `length` says how many times as large a group's own is."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate * group.get("length", 1.0)

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def gradient_norm(self) -> Tensor:
        """The gradient's norm, a scalar. A point's share is measured with the Riemannian metric."""
        return nn.utils.get_total_norm([_normal_gradient(p) for p in self.parameters if p.grad is not None])

    def clip(self, most: float) -> Tensor:
        """Scale the gradient down to the norm `most` and return the norm that it had, a scalar."""
        norm = self.gradient_norm()
        nn.utils.clip_grads_with_norm_(self.parameters, most, norm)
        return norm

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The state of the configured optimiser; where there are points, also RiemannianAdam's, as "points"."""
        ordinary, *points = (part.state_dict() for part in self.parts)
        return {**ordinary, **({"points": points[0]} if points else {})}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        states = [{key: value for key, value in state.items() if key != "points"}]
        states += [state["points"]] if self.points else []
        for part, own in zip(self.parts, states, strict=True):
            part.load_state_dict(own)
        for point in self.points:
            # torch's Adam, which RiemannianAdam inherits from, loads the count as a float32 tensor, and then its powers
            # of the momenta differ in the last bit from those of a run that was never stopped
            if at := self.parts[1].state.get(point):
                at["step"] = int(at["step"])


@torch.no_grad()
def _normal_gradient(parameter: nn.Parameter) -> Tensor:
    """A tensor whose Euclidean norm is the norm of the parameter's Riemannian gradient."""
    assert parameter.grad is not None
    if not is_point(parameter):
        return parameter.grad
    manifold: Any = parameter.manifold  # type: ignore[attr-defined]  # geoopt's, on its parameters
    gradient = manifold.egrad2rgrad(parameter, parameter.grad)
    return manifold.inner(parameter, gradient, keepdim=True).sqrt()
