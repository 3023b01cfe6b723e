"""Checks that the loss and the weights of a training are finite, and explains what to change when they are not."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from hldm.errors import UserError
from hldm.geometry import Curvature
from hldm.geometry.curvature import USUAL_CURVATURE
from hldm.training.checkpoint import not_finite


class Watch:
    """Checks the loss of every step, and the weights before they are saved.

    On a GPU the loss of a step is checked during the next step: it has been computed by then, so nothing waits for it.

    Args:
        stage: name of what is trained.
        curved: the module whose curvatures, if it has any, the loss depends on.
        rate: the peak learning rate.

    Attributes:
        saved: steps of the last state that was saved, for what is said.
    """

    def __init__(self, stage: str, curved: nn.Module, rate: float) -> None:
        self.stage = stage
        self.curved = curved
        self.rate = rate
        self.saved = 0
        self._late: tuple[int, Tensor, Any] | None = None  # step, its loss on the way to the CPU, when it has arrived

    def loss(self, step: int, loss: Tensor) -> None:
        """Check the loss () of `step`, counted from 0.

        Raises:
            UserError: the loss, on a GPU that of the step before, is not finite.
        """
        if loss.device.type != "cuda":
            self._look(step, float(loss.detach()))
            return
        self.settle()
        number, arrived = torch.empty((), dtype=loss.dtype, pin_memory=True), torch.cuda.Event()
        number.copy_(loss.detach(), non_blocking=True)
        arrived.record()
        self._late = (step, number, arrived)

    @contextmanager
    def overflow(self, step: int) -> Iterator[None]:
        """Run the block, which is one step; explain torch's error where a setting is a number beyond float32."""
        try:
            yield
        except RuntimeError as error:
            if "without overflow" not in str(error):
                raise
            self._refuse(step, "a setting is a number beyond float32")

    def settle(self) -> None:
        """Check the last loss that was handed in, if it has not been checked yet."""
        if self._late is not None:
            step, number, arrived = self._late
            self._late = None
            arrived.synchronize()
            self._look(step, float(number))

    def state(self, done: int, state: Mapping[str, Any]) -> None:
        """Check all that is about to be saved or returned after `done` steps: weights, averages, the optimiser.

        Raises:
            UserError: one number of it is not finite.
        """
        self.settle()
        if (name := not_finite(state)) is not None:
            self._refuse(done - 1, f"{name} is not finite")

    def _look(self, step: int, loss: float) -> None:
        if not math.isfinite(loss):
            self._refuse(step, f"the loss is {loss}")

    def _refuse(self, step: int, what: str) -> NoReturn:
        kept = f"the state after step {self.saved} is kept" if self.saved else "there is no earlier state"
        raise UserError(
            f"{self.stage}: {what} at step {step + 1}. {self._remedy(step)} Nothing of that was saved, {kept}, and the "
            "same command would end here again."
        )

    def _remedy(self, step: int) -> str:
        low, high = USUAL_CURVATURE
        for curvature in (module for module in self.curved.modules() if isinstance(module, Curvature)):
            # the start of a learned one: where it went may be a consequence of what is wrong
            c = float(getattr(curvature, "value", 1.0))
            if c and not low <= c <= high:
                return (
                    f"A curvature of {c:g} leads to numbers that float32 cannot hold. Type one between {low:g} and "
                    f"{high:g}, such as curvature=1, or 0 for flat space."
                )
        if step == 0 and self.rate < 1e30:  # beyond that, the step itself overflows
            return (
                "Nothing was learned before it, so the learning rate is not the cause. Lower the weights of the loss, "
                "or look for values in the data that are not finite."
            )
        lower = min(self.rate / 10, 1e-3)
        return (
            f"Its learning rate of {self.rate:g} is too high: lower it, as in "
            f"training.{self.stage}.learning_rate={lower:g}."
        )
