"""Curvature c ≥ 0 of a ball (its sectional curvature is −c): a number, or a parameter that is learned."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from hldm.geometry.ops import promote
from hldm.geometry.shapes import Number, Scalar

USUAL_CURVATURE = (1e-6, 1e4)
"""c at which float32 is no trouble by itself for latents of the usual size, with room on both sides."""

STILL = 0.1
"""How far log c may move in the last two fifths of a training that has settled: 10 % of c."""


class Curvature(nn.Module, ABC):
    """A scalar c ≥ 0. Call it for a tensor; geometry reads `operand`, a plain number where c is fixed."""

    @property
    @abstractmethod
    def operand(self) -> Scalar:
        """c as the formulae take it: a Python float if it is fixed (then c = 0 is known without a look at data)."""

    @property
    def is_zero(self) -> bool:
        """Whether c is known to be 0 without a look at data: then every formula takes its Euclidean branch."""
        return False

    def forward(self) -> Number:
        """c as a tensor of shape ()."""
        c = self.operand
        return c if isinstance(c, Tensor) else torch.tensor(c)

    @abstractmethod
    def rescaled(self, s: Scalar) -> "Curvature":
        """c·s², the curvature of the space in which every length is divided by s."""


class FixedCurvature(Curvature):
    """c is a constant.

    Args:
        value: c ≥ 0, kept as a Python float, so in float64. With c = 0 every formula takes its Euclidean branch.
    """

    def __init__(self, value: float) -> None:
        super().__init__()
        if not 0 <= value < math.inf:
            raise ValueError(f"c={value} is not a curvature: c must be ≥ 0 and finite (sectional curvature is −c).")
        self.value = float(value)

    @property
    def operand(self) -> float:
        return self.value

    @property
    def is_zero(self) -> bool:
        return self.value == 0

    def rescaled(self, s: Scalar) -> "FixedCurvature":
        return FixedCurvature(self.value * float(s) ** 2)

    def extra_repr(self) -> str:
        return f"{self.value:g}"


class LearnableCurvature(Curvature):
    """c = value·exp(raw), positive by construction, with raw = 0 at the start.

    Args:
        value: c > 0 at the start; exactly this number, rounded once to the parameter's dtype.
        learning_rate: the peak learning rate of raw, without weight decay; None: both as of any other weight.

    The start value travels with the state dict (as float64), so a checkpoint restores c even into a module that was
    built with another start value. So does where c stood when the last two fifths of its training began.

    Attributes:
        late: raw when the last two fifths of its training began, and how far its learning rates could carry it from
            there; None before that.
        is_last: whether it is as the last step of its training left it.
    """

    def __init__(self, value: float, learning_rate: float | None = None) -> None:
        super().__init__()
        if not 0 < value < math.inf:
            raise ValueError(
                f"A learned curvature cannot start at c={value}: it is value·exp(raw), so c must be > 0 and finite."
            )
        self.value = float(value)
        self.learning_rate = learning_rate
        self.late: tuple[float, float] | None = None
        self.is_last = False
        self.raw = nn.Parameter(torch.zeros(()))

    @property
    def operand(self) -> Number:
        return self.value * torch.exp(promote(self.raw))

    def rescaled(self, s: Scalar) -> "RescaledCurvature":
        return RescaledCurvature(self, s)

    def begin_late(self, farthest: float) -> None:
        """Remember where c is; from here its learning rates could carry log c `farthest`, their sum."""
        self.late, self.is_last = (float(self.raw.detach()), farthest), False

    @property
    def has_settled(self) -> bool | None:
        """Whether training found a c, rather than ended on the way; None where no training has said.

        In its last two fifths log c moved by at most `STILL`, and by at most a quarter of what its learning rates
        allowed: a rate that cannot move it proves nothing, and the very last steps are short whatever the data say. And
        c is within `USUAL_CURVATURE`, not at an end of the number format or of what can be told from flat. Weights of
        an earlier step (`training.keep=best`) say nothing of how c went on.
        """
        if self.late is None or not self.is_last or self.late[1] == 0:
            return None
        before, farthest = self.late
        low, high = USUAL_CURVATURE
        moved = abs(float(self.raw.detach()) - before)
        return moved <= min(STILL, farthest / 4) and low <= float(self().detach()) <= high

    def get_extra_state(self) -> Tensor:
        late = () if self.late is None else (*self.late, float(self.is_last))
        return torch.tensor([self.value, *late] if late else self.value, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        self.value, *late = state.reshape(-1).tolist()
        self.late = (late[0], late[1]) if late else None
        self.is_last = late[2:] == [1.0]

    def extra_repr(self) -> str:
        return f"start={self.value:g}"


class RescaledCurvature(Curvature):
    """s² times another curvature, whose parameter it shares.

    Args:
        base: the learnable curvature.
        s: a positive scale, a number or a tensor of shape ().
    """

    factor: Tensor

    def __init__(self, base: Curvature, s: Scalar) -> None:
        super().__init__()
        self.base = base
        self.register_buffer("factor", torch.as_tensor(s, dtype=torch.get_default_dtype()).detach() ** 2)

    @property
    def operand(self) -> Number:
        return promote(self.factor) * self.base.operand

    def rescaled(self, s: Scalar) -> "RescaledCurvature":
        return RescaledCurvature(self, s)
