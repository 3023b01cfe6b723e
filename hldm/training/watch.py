"""Checks that the loss and the weights of a training are finite, and explains what to change when they are not."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from hldm.errors import UserError
from hldm.geometry import Curvature
from hldm.geometry.curvature import USUAL_CURVATURE


class Watch:
    """Checks the loss of every step, and the weights before they are saved.

    On a GPU the loss of a step is checked during the next step: it has been computed by then, so nothing waits for it.

    Args:
        stage: name of what is trained.
        curved: the module whose curvatures, if it has any, the loss depends on.
        rate: the peak learning rate.
    """

    def __init__(self, stage: str, curved: nn.Module, rate: float) -> None:
        self.stage = stage
        self.curved = curved
        self.rate = rate
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

    def weights(self, done: int, *models: nn.Module) -> None:
        """Check all weights after `done` steps, before they are saved or returned.

        Raises:
            UserError: one of them is not finite.
        """
        self.settle()
        if any(not is_finite(model) for model in models):
            self._refuse(done - 1, "a weight is not a finite number")

    def _look(self, step: int, loss: float) -> None:
        if not math.isfinite(loss):
            self._refuse(step, f"the loss is {loss}")

    def _refuse(self, step: int, what: str) -> NoReturn:
        raise UserError(
            f"{self.stage}: {what} at step {step + 1}. {self._remedy(step)} Nothing of that was saved; the "
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


def is_finite(model: nn.Module) -> bool:
    """Whether every weight of a model is a finite number. On a GPU it waits once, for all weights together."""
    found = [parameter.isfinite().all() for parameter in model.parameters()]
    return not found or bool(torch.stack(found).all())
