"""Weights & Biases: online where there is a key, otherwise an offline run that `wandb sync` uploads.

Everything lies under <run>/wandb: `id.txt` (the run's id on the server, one for life), and a segment for each time that
the run was started: `run-*` online, `offline-run-*` offline.

A kill takes wandb's own process with it, and with that up to 15 seconds of what it was given. So a segment is never
trusted: on a resume, what `metrics.jsonl` holds and W&B lacks is given to it again. What W&B has is known online (the
server tells) and where there are only offline segments (they are replaced, so nothing).

Whatever wandb raises, a training run goes on without it: one line says what was wrong.
"""

import os
import secrets
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from hldm.errors import UserError
from hldm.files import write_text_atomically
from hldm.tracking import agent, lineage
from hldm.tracking.jsonlines import JsonLines
from hldm.tracking.tracker import FirstStageRun, Tracker

_CONNECT_SECONDS = 20.0
_UPLOAD_SECONDS = 60.0

_OTHER_RUNS = ("RUN_ID", "SWEEP_ID", "SWEEP_PARAM_PATH", "LAUNCH", "RESUME", "RESUME_FROM", "FORK_FROM")
"""Variables WANDB_… by which an environment chooses the run to write to. A run directory has its own, or the one that
an agent of a sweep has given to its command (`agent.adopt`)."""


def check_tracking(project: str, entity: str | None = None, mode: str = "auto") -> str | None:
    """Try the settings of `WandbTracker` once, before many runs meet the same trouble. Connects to nothing.

    Returns:
        The line that every run would print for not being tracked, or None where nothing is wrong.

    Raises:
        UserError: mode is "online" and there is no key.
    """
    try:
        import wandb

        chosen, reason = choose_mode(mode)
        wandb.Settings(project=project, entity=entity)
    except Exception as error:  # as in a run
        return f"{_NAME}it cannot be used ({in_one_line(error)}); metrics go to metrics.jsonl only."
    finally:
        _try("did not end", _teardown)
    if mode == "online" and chosen != "online":
        raise UserError(
            f"tracking.mode=online needs a Weights & Biases key: {reason}. "
            "Type `wandb login` or set WANDB_API_KEY; tracking.mode=offline writes a run to upload later."
        )
    return None


@final
class WandbTracker(Tracker):
    """A W&B run per run directory.

    Args:
        project: name of the W&B project.
        entity: user or team; None: the default one of the key.
        mode: "auto": as WANDB_MODE or the wandb settings say, otherwise online if there is a key and offline if not.
            "online": connects if there is a key. "offline": never connects.
    """

    def __init__(self, project: str, entity: str | None = None, mode: str = "auto") -> None:
        self.project = project
        self.entity = entity
        self.mode = mode
        self._run: Any = None
        self._is_beside = False  # whether another run of this process is open, which a failure here leaves alone
        self._directory = Path()
        self._commit: str | None = None
        self._given: dict[str, int] = {}  # stage → last step that W&B has had
        self._stages: set[str] = set()  # those whose step axis W&B knows

    def start(
        self,
        directory: Path,
        run_id: str,
        config: Mapping[str, Any],
        labels: Mapping[str, str | float],
        provenance: Mapping[str, Any],
        group: str,
        job_type: str,
    ) -> None:
        """See `Tracker.start`. A section of `config` that has a label's name is shown as <name>_options."""
        options = {f"{name}_options": config[name] for name in labels if isinstance(config.get(name), Mapping)}
        arguments: dict[str, Any] = {
            "project": self.project,
            "entity": self.entity,
            "resume": "allow",
            "name": run_id,
            "dir": str(directory),
            "group": group,
            "job_type": job_type,
            "tags": [f"{name}={value}" for name, value in labels.items()],
            "config": {**config, **options, **labels, "provenance": dict(provenance)},
        }
        if given := self._agent():
            # the sweep's own project, and its parameters under the names that it looks for
            arguments["project"] = os.environ.get("WANDB_PROJECT", self.project)
            arguments["entity"] = os.environ.get("WANDB_ENTITY", self.entity)
            arguments["config"] |= given.parameters
        self._commit = provenance.get("commit")
        if trouble := _try("could not start", lambda: self._start(directory, run_id, arguments)):
            self._abandon()
            _say(f"{trouble}; metrics go to {_short(directory / 'metrics.jsonl')} only.")

    def log(self, step: int, metrics: Mapping[str, float], stage: str) -> None:
        if self._run is None or step <= self._given.get(stage, -1):
            return
        self._given[stage] = step
        if stage not in self._stages:
            self._stages.add(stage)
            self._guard(lambda: self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step"))
        row = {f"{stage}/{name}": float(value) for name, value in metrics.items()} | {f"{stage}/step": step}
        self._guard(lambda: self._run.log(row))

    def image(self, name: str, path: Path) -> None:
        self._guard(lambda: self._run.log({name: _image(path)}))

    def file(self, path: Path) -> None:
        self._try_extra(f"does not keep {path.name}", lambda: self._run.save(path, base_path=path.parent, policy="now"))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self._try_extra(f"does not show {name}", lambda: self._run.log({name: _table(columns, rows)}))

    def first_stage(self, stage: FirstStageRun) -> None:
        """See `Tracker.first_stage`. Offline there is no artifact between the two, only what is in the config."""
        if self._run is None:
            return
        other = WandbTracker(self.project, self.entity, "offline" if self._run.offline else "online")
        other._is_beside = True
        name = stage.directory.name
        folder = stage.directory / "wandb"
        if not _is_tracked(folder):
            arguments = (stage.config, stage.labels, stage.provenance, stage.group, "first_stage")
            other.start(stage.directory, name, *arguments)
            other._try_extra("does not show the weights", lambda: lineage.output(other._run, name, stage.digest))
            other.finish(0)
        self._guard(lambda: self._stands_on(name, _id_in(folder) if _is_tracked(folder) else None))
        if self._run is not None and not self._run.offline:
            self._try_extra("does not show the lineage", lambda: lineage.use(self._run, name, stage.digest))

    def preempted(self) -> None:
        self._guard(lambda: self._run.mark_preempting())

    def summary(self, metrics: Mapping[str, Any]) -> None:
        self._guard(lambda: self._run.summary.update(dict(metrics)))

    def finish(self, exit_code: int) -> None:
        if self._run is None:
            return
        run, self._run = self._run, None
        # a server that does not answer must not turn a good run into a failed one
        if trouble := _try("did not end its upload", lambda: run.finish(exit_code=exit_code)):
            segment = _short(Path(run.settings.sync_dir))
            _say(f"{trouble}; `wandb sync --include-online {segment}` ends it.")

    def _stands_on(self, name: str, run: str | None) -> None:
        self._run.config.update({"first_stage": name, "first_stage_run": run}, allow_val_change=True)

    def _start(self, directory: Path, run_id: str, arguments: dict[str, Any]) -> None:
        """Open the W&B run, online or offline, and give it what it lacks. Raises whatever goes wrong."""
        mode, reason = choose_mode(self.mode)
        if mode == "disabled":
            return
        self._directory = directory / "wandb"
        self._directory.mkdir(parents=True, exist_ok=True)
        earlier = self._segments()
        arguments["id"] = self._id(run_id)
        if mode == "online" and (reason := _try("could not be reached", lambda: self._init(mode, arguments))):
            self._set_aside(path for path in self._segments() if path not in earlier)
            if self._is_beside:
                raise ConnectionError(reason)
            _teardown()  # the attempt that failed still holds the id
            set_up()
        if self._run is None:
            self._init("offline", arguments)
        what = "the first stage" if self._is_beside else "this run"
        if self._run.offline:
            sync = f"wandb sync {_short(self._directory)}/offline-run-*"
            _say(f"{reason}, so {what} is kept offline; `{sync}` uploads it.")
        else:
            _say(f"{what} is at {self._run.url}")
        self._guard(lambda: self._catch_up(JsonLines(directory / "metrics.jsonl"), earlier))

    def _init(self, mode: Any, arguments: Mapping[str, Any]) -> None:
        import wandb

        settings = wandb.Settings(
            silent=True,
            console="off",  # what it captures are progress bars, and capturing disturbs them
            save_code=False,
            disable_code=True,
            disable_git=True,  # no patch of uncommitted work, no address with a password in it
            git_commit=self._commit,
            reinit="create_new",  # a first stage has a run of its own beside that of the run that trained it
            init_timeout=_CONNECT_SECONDS,
            finish_timeout=_UPLOAD_SECONDS,
            finish_timeout_raises=True,
            sweep_id=given.sweep if (given := self._agent()) else None,
        )
        self._run = wandb.init(settings=settings, **arguments, mode=mode)

    def _id(self, run_id: str) -> str:
        """The id on the server. Its random end keeps apart runs of one name from two machines or users of a project."""
        path = self._directory / "id.txt"
        if given := self._agent():
            if given.run != _id_in(self._directory):
                write_text_atomically(path, f"{given.run}\n")
        elif not path.exists():
            name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in run_id)
            temporary = path.with_suffix(".tmp")
            temporary.write_text(f"{name[:100]}-{secrets.token_hex(4)}\n", encoding="utf-8")
            temporary.replace(path)
        return _id_in(self._directory) or ""

    def _agent(self) -> "agent.Agent | None":
        """The run of a sweep that this run is logged as; its first stage has one of its own."""
        return None if self._is_beside else agent.adopted()

    def _catch_up(self, history: JsonLines, earlier: Sequence[Path]) -> None:
        """Give W&B what it lacks of this run's past; `earlier` are the segments from before this start."""
        records = history.records()
        unsent = [path for path in earlier if path.name.startswith("offline-") and not any(path.glob("*.synced"))]
        if not self._run.offline:
            steps = {name: value for name, value in dict(self._run.summary).items() if name.endswith("/step")}
            self._given = {name.removesuffix("/step"): int(step) for name, step in steps.items()}
        elif len(unsent) < len(earlier):
            # The server has some of it, and cannot be asked how much: go on from the last line.
            self._given = {record["stage"]: record["step"] for record in records}
            unsent = []
        for record in records:
            stage, step = record.pop("stage"), record.pop("step")
            self.log(step, record, stage)
        self._set_aside(unsent)  # what they hold is in this segment now

    def _segments(self) -> list[Path]:
        return [*self._directory.glob("run-*"), *self._directory.glob("offline-run-*")]

    @staticmethod
    def _set_aside(segments: Iterable[Path]) -> None:
        """Give the segments a name under which `wandb sync` does not find them."""
        for path in segments:
            path.rename(path.with_name(f"replaced-{path.name.partition('run-')[2]}"))

    def _guard(self, call: Callable[[], object]) -> None:
        """Call W&B; trouble there ends the tracking, not the run."""
        if self._run is not None and (trouble := _try("stopped working", call)):
            self._abandon()
            _say(f"{trouble}; metrics still go to metrics.jsonl.")

    def _try_extra(self, what: str, call: Callable[[], object]) -> None:
        """Call W&B for something without which the rest is still of use, so that trouble with it ends nothing."""
        if self._run is not None and (trouble := _try(what, call)):
            _say(f"{trouble}; what else there is goes on.")

    def _abandon(self) -> None:
        """End the W&B run and wandb itself, whose threads and exit handler would show tracebacks otherwise."""
        run, self._run = self._run, None
        if run is not None:
            _try("did not end", lambda: run.finish(exit_code=1))
        if not self._is_beside:
            _try("did not end", _teardown)


def choose_mode(wanted: str) -> tuple[str, str]:
    """The mode for `wandb.init` and, where it is "offline", the reason for it in words."""
    import wandb  # 0.6 s, which `--help` and the submitting process do without

    settings = set_up().settings
    mode = settings.mode if wanted == "auto" else wanted
    if mode in ("offline", "dryrun"):
        return "offline", f"mode is {mode}"
    if mode == "disabled":
        return "disabled", ""
    try:
        if wandb.login(prompt=False, verify=False):
            return "online", ""
        problem = "there is no key"
    except wandb.Error as error:
        problem = f"the key cannot be used ({in_one_line(error)})"
    return "offline", f"{problem} (`wandb login` or WANDB_API_KEY gives one)"


def set_up() -> Any:
    """The wandb session of this process, which prints nothing and ignores runs that the environment names."""
    import wandb

    for name in _OTHER_RUNS:
        os.environ.pop(f"WANDB_{name}", None)
    return wandb.setup(wandb.Settings(silent=True))


def _teardown() -> None:
    """End the threads and processes that wandb runs for this process, if it was imported."""
    if (wandb := sys.modules.get("wandb")) is not None:
        wandb.teardown()


def _image(path: Path) -> Any:
    import wandb

    return wandb.Image(str(path))


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    import wandb

    def cell(value: Any) -> Any:
        return wandb.Image(value) if hasattr(value, "shape") else value

    return wandb.Table(columns=list(columns), data=[[cell(value) for value in row] for row in rows])


def _is_tracked(folder: Path) -> bool:
    """Whether wandb has been given the run whose folder of wandb's this is."""
    return any(folder.glob("run-*")) or any(folder.glob("offline-run-*"))


def _id_in(folder: Path) -> str | None:
    """The id of the run whose folder of wandb's this is; None where it was never tracked."""
    try:
        return (folder / "id.txt").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _try(what: str, call: Callable[[], object]) -> str:
    """Make the call and return what went wrong, in words; an empty text where nothing did."""
    try:
        call()
    except Exception as error:  # whatever wandb raises, a training run goes on without it
        return f"it {what} ({in_one_line(error)})"
    return ""


def in_one_line(error: Exception) -> str:
    """What an exception says, in one line. Where wandb refuses a setting, its name and the rule but never its value."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        return f"its setting {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


_NAME = "Weights & Biases: "


def _say(line: str) -> None:
    with suppress(OSError, ValueError):  # a closed or full stderr is no reason to end a run either
        print(f"{_NAME}{line}", file=sys.stderr, flush=True)


def _short(path: Path) -> str:
    return shlex.quote(min(str(path), os.path.relpath(path), key=len))
