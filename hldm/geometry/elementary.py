"""sinh and arsinh by exp, log and log1p.

On the CPU, torch vectorises those, but computes sinh and arsinh one element at a time: ten times what the forms below
need. Since every layer and distance ends in an arsinh, that was most of their cost. They keep full relative accuracy.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hldm.geometry.forms import two_forms
from hldm.geometry.shapes import Operand, Whole

_WORTHWHILE = 2048
# Below this many elements the Python overhead of a custom function exceeds what it saves.


def _is_worthwhile(x: Operand) -> bool:
    return x.device.type == "cpu" and x.numel() >= _WORTHWHILE


def arsinh_and_root(x: Tensor) -> tuple[Tensor, Tensor]:
    """arsinh x and r = √(1 + x²), whose inverse is its derivative; not differentiable.

    arsinh|x| = log1p(|x| + x²/(1 + r)).
    """
    if not _is_worthwhile(x):
        return torch.asinh(x), (x * x + 1).sqrt()
    # in place: at these sizes fresh memory costs more than arithmetic
    a = x.abs()
    u = a * a
    r = (u + 1).sqrt_()
    return u.div_(r + 1).add_(a).log1p_().copysign_(x), r


class _ArsinhInGraph(torch.autograd.Function):
    """arsinh with its derivative 1/√(1 + x²)."""

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return arsinh_and_root(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)  # zeros for the root would be a pass over memory of their own
        ctx.save_for_backward(inputs[0], output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> Tensor | None:
        x, r = ctx.saved_tensors
        if grad is None:
            return None
        # r hides that it depends on x, which only derivatives of this derivative would miss
        return grad * (1 + x * x).rsqrt() if torch.is_grad_enabled() else grad / r


def sinh_value(x: Tensor) -> Tensor:
    """sinh x, not differentiable, within 4 units in the last place up to overflow.

    x (u − 1)(1 + 1/u)/(2 log u) with u = exp(x) as rounded, whose error cancels between u − 1 and log u (Higham 2002,
    section 1.14.1); the floors make it x where u = 1.
    """
    if not _is_worthwhile(x):
        return torch.sinh(x)
    tiny = torch.finfo(x.dtype).tiny
    u = x.exp()
    y = (u - 1).mul_(u.reciprocal().add_(1)).add_(tiny)
    return y.div_(u.log_().mul_(2).add_(tiny)).mul_(x)


class _SinhInGraph(torch.autograd.Function):
    """sinh with its derivative cosh x = √(1 + sinh² x)."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return sinh_value(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * (1 + y * y).sqrt()


class _Arsinh(_ArsinhInGraph):
    """arsinh with forward-mode derivatives and vmap too, which torch.compile does not take."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        _ArsinhInGraph.setup_context(ctx, inputs, output)
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return tangent * (1 + x * x).rsqrt(), None


class _Sinh(_SinhInGraph):
    """sinh with forward-mode derivatives and vmap too, which torch.compile does not take."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return tangent * (1 + y * y).sqrt()


_arsinh = two_forms(eager=lambda x: _Arsinh.apply(x)[0], compiled=lambda x: _ArsinhInGraph.apply(x)[0])
_sinh = two_forms(eager=_Sinh.apply, compiled=_SinhInGraph.apply)


def arsinh(x: Operand) -> Whole:
    """arsinh x of any sign, |x| ≤ 1e18 in float32."""
    return _arsinh(x) if _is_worthwhile(x) else torch.asinh(x)


def sinh(x: Operand) -> Whole:
    """sinh x of any sign, up to overflow."""
    return _sinh(x) if _is_worthwhile(x) else torch.sinh(x)


def pullback(function: Callable[..., Tensor], inputs: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
    """gradᵀ ∂function/∂inputs by single operations: for a node's backward pass that is itself to be differentiated."""
    wanted = [x for x in inputs if x.requires_grad]
    found = iter(torch.autograd.grad(function(*inputs), wanted, grad, create_graph=True))
    return tuple(next(found) if x.requires_grad else None for x in inputs)
