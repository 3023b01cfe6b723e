"""The trials of a search on disk: a journal of Optuna's in the study's folder, that a killed search goes on from.

What is proposed depends on the seed of the search, on the trial's number and on trials that have ended: not on the
hardware, and not on whether the search was stopped in between.
"""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hldm.config.arguments import as_typed
from hldm.config.search import Search
from hldm.errors import UserError
from hldm.study.objective import Objective
from hldm.study.space import Setting, Space

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

FOLDER = ".search"
"""In the folder of a study."""


def need_optuna() -> None:
    """Raise a UserError that says what to install, where it is not."""
    try:
        import optuna
    except ImportError:
        raise UserError(
            "A search needs Optuna, which is not installed: pip install 'hldm[search]', or pip install -e '.[search]' "
            "in a checkout."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def storage(folder: Path) -> "BaseStorage":
    """The journal of a study's folder, in a folder of its own that is held by this process."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    file = folder / FOLDER / "journal.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    _mend(file)
    return JournalStorage(JournalFileBackend(str(file)))


def _mend(file: Path) -> None:
    """Cut off a line that a kill or a full disk left unfinished, and locks of processes that are gone.

    Nobody else writes: the folder is held.
    """
    for lock in file.parent.glob(f"{file.name}.*"):
        lock.unlink(missing_ok=True)
    if file.is_file() and not (content := file.read_bytes()).endswith(b"\n"):
        with file.open("r+b") as stream:
            stream.truncate(content.rfind(b"\n") + 1)


@dataclass(frozen=True)
class Trial:
    """A trial as the rest of a search sees it.

    Attributes:
        number: from 0.
        state: "open" before it has ended, "done" or "failed".
        values: setting → what Optuna proposes.
        value: the figure, None where it has none.
    """

    number: int
    state: str
    values: dict[str, Any]
    value: float | None

    @classmethod
    def of(cls, trial: "FrozenTrial") -> "Trial":
        """As Optuna has it."""
        from optuna.trial import TrialState

        states = {TrialState.COMPLETE: "done", TrialState.FAIL: "failed", TrialState.PRUNED: "failed"}
        state = states.get(trial.state, "open")
        return cls(trial.number, state, dict(trial.params), trial.value if state == "done" else None)

    def overrides(self, settings: Sequence[Setting]) -> list[str]:
        """What it tries."""
        return [setting.override(self.values[setting.key]) for setting in settings]


class Trials:
    """The trials of one search.

    Args:
        label: what tells it from the other searches of the command, as a user types it; "" for the only one.
        fixed: overrides that all of its trials have.
        digest: its name in the journal; another space, figure or fixed setting is another search.
        journal: where they are kept.
        search: how they are proposed.
        objective: what they are judged by.
        space: what is tuned.
    """

    def __init__(
        self,
        label: str,
        fixed: Sequence[str],
        digest: str,
        journal: "BaseStorage",
        search: Search,
        objective: Objective,
        space: Space,
    ) -> None:
        import optuna

        self.label, self.fixed, self.search, self.objective, self.space = label, fixed, search, objective, space
        name = f"{label} {digest}".strip()
        self._study = optuna.create_study(
            study_name=name, storage=journal, direction=objective.direction, load_if_exists=True
        )

    def all(self) -> list[Trial]:
        """In the order in which they were proposed."""
        return [Trial.of(trial) for trial in self._study.get_trials(deepcopy=False)]

    @property
    def best(self) -> Trial | None:
        """The best trial, of equals the first; None before one has succeeded."""
        best: tuple[float, Trial] | None = None
        for trial in self.all():
            if trial.value is not None and (best is None or self.objective.is_better(trial.value, best[0])):
                best = trial.value, trial
        return best[1] if best else None

    def points(self, trial: Trial) -> list[list[str]]:
        """Overrides of the runs of a trial, one for each seed."""
        return [[*self.fixed, *trial.overrides(self.space.settings), seed] for seed in self.space.seeds]

    def title(self, trial: Trial) -> str:
        """A trial in words, as a user types it."""
        tried = as_typed(trial.overrides(self.space.settings))
        return " ".join([f"Trial {trial.number + 1},", *filter(None, [self.label]), *tried])

    def next(self) -> list[Trial]:
        """Those to work on: trials that were left open, with as many new ones as belong to the same batch.

        None where as many as were asked for have ended.
        """
        there = self.all()
        is_open = any(trial.state == "open" for trial in there)
        begun = (len(there) - 1 if is_open else len(there)) // self.search.at_once
        for number in range(len(there), min(self.search.trials, (begun + 1) * self.search.at_once)):
            self._ask(number)
        return [trial for trial in self.all() if trial.state == "open"]

    def _ask(self, number: int) -> None:
        from optuna import samplers

        # a sampler has a generator, which a killed process would take with it
        seed = int.from_bytes(hashlib.sha256(f"{self.search.seed}/{number}".encode()).digest()[:4], "big")
        self._study.sampler = (
            samplers.RandomSampler(seed=seed)
            if self.search.sampler == "random"
            else samplers.TPESampler(seed=seed, n_startup_trials=self.search.random_trials, constant_liar=True)
        )
        with warnings.catch_warnings():
            # of features that Optuna calls experimental
            warnings.simplefilter("ignore")
            self._study.ask({setting.key: setting.distribution for setting in self.space.settings})

    def tell(self, trial: Trial, value: float | None) -> None:
        """How the trial has ended: with a figure, or with none."""
        from optuna.trial import TrialState

        if value is None:
            self._study.tell(trial.number, state=TrialState.FAIL)
        else:
            self._study.tell(trial.number, value)
