"""The one training loop: both stages run through `train`, which resumes bit for bit from where it was stopped."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from hldm.errors import Stopped, UserError
from hldm.run import stop
from hldm.training import ranks
from hldm.training.checkpoint import load_states, save_state
from hldm.training.ema import Ema
from hldm.training.learned import LearnedCurvatures
from hldm.training.memory import within_memory
from hldm.training.optimizer import Optimizer
from hldm.training.watch import Watch


class Stage(ABC):
    """What is trained: a model and its loss at each step. Data and noise of a step depend on its number alone."""

    name: str
    model: nn.Module

    @abstractmethod
    def loss(self, step: int) -> dict[str, Tensor]:
        """The scalars of one step, which are logged; the one called "loss" is minimised."""

    def state_dict(self) -> dict[str, Any]:
        """What the stage remembers from step to step beside its model, for the resume state."""
        return {}

    @property
    def curved(self) -> nn.Module:
        """The module whose curvatures the loss depends on."""
        return self.model

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` said."""
        assert not state, "whoever remembers something has to take it back"


def scheduled(step: int, steps: int) -> float:
    """The share of the peak learning rate at `step`, in (0, 1].

    It rises linearly over 50 steps, or a tenth of all steps where these are fewer, and then falls along half a cosine
    to 2 % at the last step.
    """
    warmup = min(50, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))


def train(
    stage: Stage,
    *,
    steps: int,
    make_optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
    schedule: Literal["cosine", "constant"],
    clip_norm: float | None,
    ema_decay: float | None,
    state_path: Path,
    checkpoint_every: int,
    checkpoint_minutes: float | None = None,
    log_every: int,
    on_start: Callable[[int], None],
    log: Callable[[int, dict[str, float]], None],
    on_step: Callable[[int], None] = lambda done: None,
    on_save: Callable[[], None] = lambda: None,
    look: Callable[[int], dict[str, float]] | None = None,
    look_every: int = 1,
) -> nn.Module:
    """Train `stage` to its end and return the model to use: the average where `ema_decay` is given.

    Args:
        steps: how many steps the whole training has, earlier pieces included.
        make_optimizer: makes the optimiser of ordinary parameters, with its peak learning rate; see `Optimizer`.
        schedule: "cosine", see `scheduled`, or "constant".
        clip_norm: the gradient's norm is scaled down to this; None: it is left as it is.
        ema_decay: of the average of the weights, see `Ema`; None: there is no average.
        state_path: where the resume state is kept; an earlier one is continued from.
        checkpoint_every: steps between resume states.
        checkpoint_minutes: the most minutes between them, where steps are slow; None: only steps count.
        on_start: called once with the first step that will be run, before it runs.
        log: called every `log_every` steps (and at the last one) with (steps done, scalars).
        on_step: called after every step with the steps done.
        on_save: called before a state is saved: what it relies on is to be on the disk first.
        look: called with the steps done every `look_every` steps, and after the last one, while the stage's model is in
            evaluation mode and has the weights to use; gives scalars to log, and leaves the training as it is.

    Raises:
        Stopped: the process was asked to stop (`hldm.run.stop`), and the state of the last step is saved.
        UserError: the loss or a weight is no longer finite, or a step does not fit in memory. What is saved is finite.
    """
    learned = LearnedCurvatures(stage.model)
    optimizer = Optimizer(stage.model.parameters(), make_optimizer, learned.rates)
    ema = None if ema_decay is None else Ema(stage.model, ema_decay)
    kept = [stage.model] if ema is None else [stage.model, ema.model]
    first = _resume(state_path, stage, optimizer, ema)
    ranks.check()
    on_start(first)
    watch = Watch(stage.name, stage.curved, optimizer.peak)
    watch.saved = first
    device = next(stage.model.parameters()).device

    def share(step: int) -> float:
        return scheduled(step, steps) if schedule == "cosine" else 1.0

    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(compact=True),
    )
    started, patience = time.monotonic(), 60 * (checkpoint_minutes or math.inf)
    saved = started
    with Progress(*columns, refresh_per_second=2) as progress, within_memory(stage.name, device):
        bar = progress.add_task(stage.name.replace("_", " "), total=steps, completed=first, figures="")
        for step in range(first, steps):
            optimizer.set_rate(optimizer.peak * share(step))
            with watch.overflow(step):
                terms = stage.loss(step)
                optimizer.zero_grad()
                terms["loss"].backward()
                ranks.average_gradients(stage.model)
                is_logged = (step + 1) % log_every == 0 or step + 1 == steps
                if clip_norm is not None:
                    terms["gradient_norm"] = optimizer.clip(clip_norm)
                elif is_logged:
                    terms["gradient_norm"] = optimizer.gradient_norm()
                optimizer.step()
            if ema is not None:
                ema.update(stage.model)
            watch.loss(step, terms["loss"])

            done = step + 1
            if done == steps - 2 * steps // 5:
                learned.begin_late(optimizer.peak, sum(map(share, range(done, steps))), *kept)
            if done == steps:
                learned.end(*kept)
            looked = None
            if look is not None and (done % look_every == 0 or done == steps):
                with _as_used(stage.model, ema):
                    looked = look(done)
            if is_logged or looked is not None:
                watch.settle()
                figures = {name: float(value.detach()) for name, value in terms.items()}
                figures |= learned.figures()
                figures |= looked or {}
                figures["steps_per_second"] = (done - first) / (time.monotonic() - started)
                log(done, figures)
                progress.update(bar, figures=f"loss {figures['loss']:.4g}")
            progress.update(bar, completed=done)
            on_step(done)
            is_stopping = ranks.anywhere(stop.requested())
            is_late = ranks.anywhere(time.monotonic() - saved >= patience)
            if done < steps and (done % checkpoint_every == 0 or is_late or is_stopping):
                state = _state(done, stage, optimizer, ema)
                watch.state(done, state)
                if ranks.is_first():
                    on_save()
                    save_state(state_path, state)
                watch.saved, saved = done, time.monotonic()
                if is_stopping:
                    stop.check()
                    raise Stopped("another rank was asked to stop")
        watch.state(steps, _state(steps, stage, optimizer, ema))
    return stage.model if ema is None else ema.model


@contextmanager
def _as_used(model: nn.Module, ema: Ema | None) -> Iterator[None]:
    """The model in evaluation mode, with its average's weights where there is one."""
    was = model.training
    model.eval()
    try:
        with nullcontext() if ema is None else ema.in_place_of(model):
            yield
    finally:
        model.train(was)


def _state(step: int, stage: Stage, optimizer: Optimizer, ema: Ema | None) -> dict[str, object]:
    return {
        "step": step,
        "model": stage.model.state_dict(),
        "stage": stage.state_dict(),
        "optimizer": optimizer.state_dict(),
        "ema": None if ema is None else ema.state_dict(),
    }


def _resume(path: Path, stage: Stage, optimizer: Optimizer, ema: Ema | None) -> int:
    """Load the newest sound state at `path`, where there is one, and return the first step to run.

    Raises:
        UserError: it is of another model.
    """
    found = ranks.together(lambda: next(iter(load_states(path)), None))
    if found is None:
        return 0
    file, state = found
    try:
        stage.model.load_state_dict(state["model"])
        stage.load_state_dict(state.get("stage", {}))
        optimizer.load_state_dict(state["optimizer"])
        if ema is not None:
            ema.load_state_dict(state["ema"])
    except (KeyError, RuntimeError) as error:
        raise UserError(
            f"The resume state {file} is from another version of the model. Delete this file to start the stage again."
        ) from error
    if file != path:
        print(f"    {stage.name} goes on from the state before, after step {state['step']}", flush=True)
    return int(state["step"])
