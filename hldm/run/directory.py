"""The files of one run, `outputs/<study>/<run id>/`: what is true about a run is what lies here.

config.yaml   the whole configuration, resolved
status.json   state, pid, host, started, ended, minutes, error, seconds (stage → seconds), progress (stage, step, steps)
results.json  final metrics and where they come from; nothing in it depends on the time of day
"""

import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from glob import glob
from pathlib import Path
from typing import Any, TypeGuard

import yaml
from pydantic import ValidationError

from hldm.config.explain import sentences
from hldm.config.options import Options, load_extensions
from hldm.config.schema import RunConfig
from hldm.config.weights import safetensors_header
from hldm.console import disk_trouble
from hldm.errors import Stopped, UserError, disk_error
from hldm.files import write_text_atomically
from hldm.paths import expanded, root
from hldm.run import lease
from hldm.run.holder import Holder

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # a thousand runs take seconds without libyaml

MODEL = Path("checkpoints") / "model.safetensors"
"""The weights of the whole model, in a run directory."""


STATES = ("new", "submitted", "running", "stopped", "failed", "finished", "cancelled")
"""What status.json may say."""

LARGEST = 1e50
"""A larger number in a file is damage. Its fourth power, which intervals take, is a number yet."""


@dataclass(frozen=True)
class Snapshot:
    """A run as it was when its files were read, once.

    Attributes:
        state: what status.json says, as far as it is still true: new, submitted, stopped, failed, finished or
            cancelled; running, where somebody works on it; broken off, where nobody works on what says that it runs, or
            what is finished lacks its results or weights.
        status: what status.json says.
        holder: who works on it; not looked at where it is finished.
        results: what results.json says, None where the run has not come that far, or they were not asked for.
    """

    state: str
    status: dict[str, Any]
    holder: Holder | None = None
    results: dict[str, Any] | None = None

    @property
    def metrics(self) -> dict[str, Any]:
        """The final metrics; none where there are no results."""
        return _mapping(self.results, "metrics")

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the metrics come from."""
        return _mapping(self.results, "provenance")


def is_number(value: object) -> TypeGuard[float]:
    """Whether what a file says is a number that can be computed with: finite, of any size that something has."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _mapping(content: Mapping[str, Any] | None, key: str) -> dict[str, Any]:
    """What stands under a key of a file, {} where that is not what it should be."""
    found = (content or {}).get(key)
    return found if isinstance(found, dict) else {}


class RunDirectory:
    """One run on disk. Every write is whole or not there."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._is_held = False

    @classmethod
    def find(cls, text: str) -> list["RunDirectory"]:
        """The runs that a run directory, a study folder or a pattern names, in the order of their names.

        A relative path is looked for where the command was typed, then beside train.py, where outputs/ is. What exists
        is meant as it is written, also with [ ] in its name. A run that a link names again is not another one.
        """
        path = expanded(text)
        for candidate in (path, root() / path):
            if (candidate / "config.yaml").is_file():
                return [cls(candidate)]
            inside = candidate.iterdir() if candidate.is_dir() else _matching(candidate)
            found = sorted((run for run in inside if (run / "config.yaml").is_file()), key=Path.is_symlink)
            if distinct := {run.resolve(): run for run in reversed(found)}:
                return [cls(run) for run in sorted(distinct.values())]
        return []

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> "RunDirectory":
        """The directory of a run that is about to start or to be resumed, with this configuration."""
        run = cls(path)
        run.path.mkdir(parents=True, exist_ok=True)
        text = yaml.dump(config.dump(), Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
        write_text_atomically(run.path / "config.yaml", text)
        return run

    @property
    def config_digest(self) -> str | None:
        """A hash of config.yaml as it is, by which damage shows; None where it is not there."""
        try:
            return hashlib.sha256((self.path / "config.yaml").read_bytes()).hexdigest()
        except OSError:
            return None

    def set_aside_damaged(self) -> list[Path]:
        """Rename status.json and results.json where they cannot be read, so that what they held is made again.

        Returns:
            The files as they are called now. What is left of the run is looked at as if they had not been there.
        """
        aside = []
        for name, is_sound in (("status.json", lambda: self.status), ("results.json", lambda: self.results)):
            try:
                is_sound()
            except UserError:
                file = self.path / name
                if file.is_file() and os.access(file, os.R_OK):
                    aside.append(file.rename(file.with_name(f"{name}.damaged")))
        return aside

    def others(self, outputs: Path) -> Iterator["RunDirectory"]:
        """The other runs in a folder of studies, as far as they are not damaged."""
        for file in sorted(outputs.glob("*/*/status.json")):
            run = type(self)(file.parent)
            if run.path != self.path and _is_readable(file):
                yield run

    @property
    def config(self) -> RunConfig:
        """The configuration the run was started with. It is data: nothing that it names is run, or looked up."""
        return configuration(self.path)

    @property
    def status(self) -> dict[str, Any]:
        """What status.json says; `{"state": "new"}` where there is none."""
        file, remedy = self.path / "status.json", "The run is resumed from its checkpoints then."
        status = _read_json(file, remedy) or {"state": "new"}
        if not _is_status(status):
            raise UserError(f"{file} does not hold what it should. Delete it and repeat the command. {remedy}")
        return status

    def snapshot(self, *, with_results: bool = True) -> Snapshot:
        """The state of the run, with the files that say so. Looking takes no lock: it disturbs nobody.

        Args:
            with_results: read results.json, which takes longer than all the rest.
        """
        status = self.status
        is_whole = status["state"] == "finished" and self._is_whole(status)
        holder = None if is_whole else self.holder()
        if status["state"] == "running" and holder is None:
            status = self.status  # who has ended since the first look said so before it let go
            is_whole = status["state"] == "finished" and self._is_whole(status)
        state = str(status["state"])
        if holder is not None:
            state = "running"
        elif state == "running" or (state == "finished" and not is_whole):
            state = "broken off"
        if state in ("new", "submitted", "stopped", "broken off") and self.is_to_be_cancelled:
            state = "cancelled"
        return Snapshot(state, status, holder, self.results if with_results else None)

    def look(self, *, with_results: bool = True) -> Snapshot:
        """The same where a file may be damaged: state "damaged" then, and the reason as `error` of the status."""
        try:
            return self.snapshot(with_results=with_results)
        except UserError as error:
            return Snapshot("damaged", {"state": "damaged", "error": str(error)})

    def _is_whole(self, status: Mapping[str, Any]) -> bool:
        """Whether a finished run has results, and weights of the size that they had then.

        Weights may have been removed for room.
        """
        try:
            if (self.path / "results.json").stat().st_size <= len("{}\n"):
                return False
        except OSError:
            return False
        size = status.get("weights_bytes")
        try:
            return size is None or (self.path / MODEL).stat().st_size == size
        except OSError:
            return True

    @property
    def _cancel_mark(self) -> Path:
        return self.path / ".cancelled"

    @property
    def is_to_be_cancelled(self) -> bool:
        """Whether somebody asked for that since a command last began with the run."""
        return self._cancel_mark.exists()

    def mark_cancelled(self) -> None:
        """Have the run be cancelled as soon as nobody works on it, however it ends, unless it finishes.

        A file of its own: who works on the run writes its status.
        """
        self._cancel_mark.touch()

    def forget_cancelled(self) -> None:
        """Take `mark_cancelled` back: the run is wanted again."""
        self._cancel_mark.unlink(missing_ok=True)

    @property
    def finished(self) -> dict[str, Any] | None:
        """The results of a finished run, None of any other."""
        now_is = self.snapshot()
        return now_is.results if now_is.state == "finished" else None

    @property
    def state(self) -> str:
        """The `state` of a snapshot."""
        return self.snapshot().state

    def update_status(self, **fields: Any) -> None:
        """Change these fields of status.json."""
        write_json(self.path / "status.json", {**self.status, **fields})

    @property
    def results(self) -> dict[str, Any] | None:
        """What results.json says, or None where the run has not come that far."""
        return _read_json(self.path / "results.json", "The same command makes it again.")

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write results.json."""
        write_json(self.path / "results.json", results)

    def check_weights(self) -> None:
        """Let a run pass that has weights, as far as their file's head says. Without torch: asked before any work.

        Raises:
            UserError: they are missing, or cut off.
        """
        file = self.path / MODEL
        again = f"Move {self.path} away and repeat the command that trained it, which does it again."
        if not file.is_file():
            is_finished = self.look(with_results=False).state == "finished"
            remedy = again if is_finished else "Train the run first: python train.py with its settings."
            raise UserError(f"There are no weights at {file}. {remedy}")
        try:
            safetensors_header(file)
        except (OSError, ValueError) as error:
            raise UserError(f"The weights in {file} are damaged ({error}). {again}") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run, so that no other process works on it, on any machine. What one object holds, it holds once.

        A process that was killed is followed at once on its machine, elsewhere when it has been silent for a minute.

        Raises:
            BusyError: another process has it, or took it while this one was stopped.
        """
        if self._is_held:
            yield
            return
        with lease.held(self.path, say=lambda text: print(f"    {text}", flush=True)):
            self._is_held = True
            try:
                yield
            finally:
                self._is_held = False

    def holder(self) -> Holder | None:
        """Who works on the run now."""
        return lease.holder(self.path)

    @contextmanager
    def work(self) -> Iterator[None]:
        """Hold the run and keep status.json true while it works: running, then finished, stopped or failed.

        What was taken over by another process while this one was stopped is left as it is.
        What is killed stays "running" without anyone who holds it, which is what `broken off` means.
        Minutes add up over resumed pieces.
        """
        with self.lock():
            before, start = float(self.status.get("minutes") or 0), time.monotonic()
            self.update_status(
                state="running", pid=os.getpid(), host=socket.gethostname(), started=now(), ended=None, error=None
            )
            ending: dict[str, Any] = {}
            is_lost = False
            try:
                yield
                ending = {"state": "finished"}
                self.forget_cancelled()
            except lease.LostError:
                is_lost = True
                raise
            except Stopped:
                ending = {"state": "stopped"}
                raise
            except Exception as error:
                ending = {"state": "failed", "error": reason(error)}
                raise
            finally:
                if not is_lost:  # else it is another process's to say
                    minutes = round(before + (time.monotonic() - start) / 60, 3)
                    self._end(ended=now(), minutes=minutes, **ending)

    def _end(self, **fields: Any) -> None:
        """`update_status`, also on a full disk: where a new file has no room, the old one's room is used."""
        file = self.path / "status.json"
        try:
            self.update_status(**fields)
        except OSError as error:
            if disk_error(error) is None:
                raise
            text = as_json({**self.status, **fields}).encode()
            with suppress(OSError), file.open("rb+") as stream:
                stream.write(text)
                stream.truncate()


def _is_status(status: Mapping[str, Any]) -> bool:
    """Whether what is computed with, or looked up, in a status.json is what it should be."""
    seconds, speed, code = (status.get(name) or {} for name in ("seconds", "speed", "code"))
    return (
        status.get("state") in STATES
        and all(isinstance(section, dict) for section in (seconds, speed, code))
        and all(map(is_number, (status.get("minutes") or 0, *seconds.values())))
    )


def _matching(pattern: Path) -> Iterator[Path]:
    """What a pattern names. The part of it that exists is meant as it is written."""
    there = next((parent for parent in pattern.parents if parent.is_dir()), Path())
    return (there / name for name in glob(str(pattern.relative_to(there)), root_dir=there))


def now() -> str:
    """Local time with its offset, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that people can read, whole or not at all; NaN is refused (JSON has none)."""
    write_text_atomically(path, as_json(content))


def as_json(content: Mapping[str, Any]) -> str:
    """JSON that people can read."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def reason(error: Exception) -> str:
    """Why a run failed, for status.json."""
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return " ".join((disk_trouble(error) or kind + str(error)).split())[:500]


def _is_readable(file: Path) -> bool:
    try:
        return _read_json(file, "") is not None
    except UserError:
        return False


def configuration(folder: Path, remedy: str = "The command that started the run writes it anew.") -> RunConfig:
    """What config.yaml in a folder says. It is data: nothing that it names is run, or looked up.

    Raises:
        UserError: it is missing or damaged; `remedy` is what to do then.
    """
    load_extensions()
    file = folder / "config.yaml"
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is not a run: it has no config.yaml. Runs lie in outputs/<study>/<run id>."
        ) from error
    # yaml goes into itself for each bracket
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read. {remedy}") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"{file} holds no configuration. {remedy}")
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        problem = sentences(error, RunConfig, content, Options())[0]
        raise UserError(f"{file} is not a configuration of this version: {problem} {remedy}") from error


def _read_json(file: Path, remedy: str) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # the file may be whole
        raise UserError(f"{file} cannot be read: {error.strerror}. Make it readable and repeat the command.") from error
    except ValueError as error:
        raise UserError(f"{file} cannot be read ({error}). Delete it and repeat the command. {remedy}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} does not hold what it should. Delete it and repeat the command. {remedy}")
    return content
