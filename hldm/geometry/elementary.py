"""sinh, arsinh and softplus at the speed of exp and log.

On the CPU, torch computes these, and log1p and expm1 too, one element at a time: five to twenty times what the
vectorised exp and log need. Since every layer and distance ends in an arsinh, that is most of their cost. The forms
below keep full relative accuracy.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_WORTHWHILE = 2048
# Below this many elements the Python overhead of a custom function exceeds what it saves.


def _is_worthwhile(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.numel() >= _WORTHWHILE


_TINY = 1e-30
# Least w whose root is taken: √w and its square have a place in float32.


def _log1p(u: Tensor) -> Tensor:
    """log(1 + u) for u ≥ 0, within 2 units in the last place.

    log w + (u − (w − 1))/w with w = 1 + u as rounded: the second term is what the rounding lost.
    """
    w = 1 + u
    return torch.log(w).addcdiv_((w - 1).sub_(u), w, value=-1)


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
    return _log1p(u.div_(r + 1).add_(a)).copysign_(x), r


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
    """The same with forward-mode derivatives and vmap, which torch.compile does not take."""

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
    """The same with forward-mode derivatives and vmap, which torch.compile does not take."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return tangent * (1 + y * y).sqrt()


def arsinh(x: Tensor) -> Tensor:
    """arsinh x of any sign, |x| ≤ 1e18 in float32."""
    if not _is_worthwhile(x):
        return torch.asinh(x)
    y: Tensor = (_ArsinhInGraph if torch.compiler.is_compiling() else _Arsinh).apply(x)[0]
    return y


def sinh(x: Tensor) -> Tensor:
    """sinh x of any sign, up to overflow."""
    if not _is_worthwhile(x):
        return torch.sinh(x)
    return _SinhInGraph.apply(x) if torch.compiler.is_compiling() else _Sinh.apply(x)


class _Softplus(torch.autograd.Function):
    """log(1 + eˣ) = max(x, 0) + log1p(exp(−|x|)); derivative 1/(1 + e⁻ˣ)."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _log1p(x.abs().neg_().exp_()).add_(x.clamp(min=0))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * torch.sigmoid(x)


def softplus(x: Tensor) -> Tensor:
    """log(1 + eˣ) of any x: what a Bernoulli likelihood of all pixels spends its time on. Reverse mode only."""
    if not _is_worthwhile(x):
        return F.softplus(x)
    result: Tensor = _Softplus.apply(x)
    return result


class _ArsinhSqrtSquared(torch.autograd.Function):
    """arsinh(√w)² with its derivative arsinh(√w)/√(w(1 + w)), both from one logarithm."""

    generate_vmap_rule = True

    @staticmethod
    def forward(w: Tensor) -> tuple[Tensor, Tensor]:
        w = w.clamp(min=_TINY)
        x, r = w.sqrt(), (w + 1).sqrt_()
        a = _log1p((w / (1 + r)).add_(x))
        slope = a / x.mul_(r)
        return a.square_(), slope

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], output[1])
        ctx.save_for_forward(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> Tensor:
        w, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # the slope hides that it depends on w
            w = w.clamp(min=_TINY)
            slope = arsinh(w.sqrt()) / (w * (1 + w)).sqrt()
        return grad * slope

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return tangent * slope, None


def arsinh_sqrt_squared(w: Tensor) -> Tensor:
    """arsinh(√w)², analytic at w = 0, where it is w; what rounding left below 0 counts as 0, with the slope there."""
    if torch.compiler.is_compiling():
        return arsinh(w.clamp(min=_TINY).sqrt()).square()
    y: Tensor = _ArsinhSqrtSquared.apply(w)[0]
    return y


def pullback(function: Callable[..., Tensor], inputs: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
    """gradᵀ ∂function/∂inputs by single operations: for a node's backward pass that is itself to be differentiated."""
    wanted = [x for x in inputs if x.requires_grad]
    found = iter(torch.autograd.grad(function(*inputs), wanted, grad, create_graph=True))
    return tuple(next(found) if x.requires_grad else None for x in inputs)
