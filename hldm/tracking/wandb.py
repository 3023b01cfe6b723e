"""Weights & Biases: online where there is a key, otherwise an offline run that `wandb sync` uploads.

Everything lies under <run>/wandb: `id.txt` (the run's id on the server, one for life), `images/` (a copy of each
picture of a step), and a segment for each time that the run was started: `run-*` online, `offline-run-*` offline.

A kill takes wandb's own process with it, and with that up to 15 seconds of what it was given. So a segment is never
trusted: on a resume, what `metrics.jsonl` and `images/` hold and W&B lacks is given to it again. What W&B has is known
online (the server tells) and where there are only offline segments (they are replaced, so nothing).
"""

import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from hldm.errors import UserError
from hldm.tracking.jsonlines import JsonLines
from hldm.tracking.tracker import Tracker, labels

_MODES = ("auto", "online", "offline")
_CONNECT_SECONDS = 20.0
_UPLOAD_SECONDS = 60.0


@final
class WandbTracker(Tracker):
    """A W&B run per run directory.

    Args:
        project: name of the W&B project.
        entity: user or team; None: the default one of the key.
        mode: "auto": as WANDB_MODE or the wandb settings say, otherwise online if there is a key and offline if not.
            "online": the key must be there. "offline": never connects.

    Raises:
        UserError: on another mode.
    """

    def __init__(self, project: str, entity: str | None = None, mode: str = "auto") -> None:
        if mode not in _MODES:
            raise UserError(
                f"tracking.mode={mode} is not a way to track: it must be one of {', '.join(_MODES)}. "
                "For no tracking at all use tracking=none."
            )
        self.project = project
        self.entity = entity
        self.mode = mode
        self._run: Any = None
        self._directory = Path()
        self._given: dict[str, int] = {}  # stage → last step that W&B has had
        self._stages: set[str] = set()  # those whose step axis W&B knows

    def start(
        self,
        directory: Path,
        run_id: str,
        config: Mapping[str, Any],
        group: str,
        job_type: str,
        tags: Sequence[str] = (),
    ) -> None:
        """See `Tracker.start`.

        Raises:
            UserError: mode is "online" and there is no key.
        """
        mode, reason = self._choose_mode()
        if mode == "disabled":
            return
        self._directory = directory / "wandb"
        self._directory.mkdir(parents=True, exist_ok=True)
        earlier = self._segments()

        flat = labels(config)
        options = {f"{name}_options": config[name] for name in ("geometry", "curvature") if name in config}
        arguments: dict[str, Any] = {
            "project": self.project,
            "entity": self.entity,
            "id": self._id(run_id),
            "resume": "allow",
            "name": run_id,
            "dir": str(directory),
            "group": group,
            "job_type": job_type,
            "tags": list(dict.fromkeys([*(f"{name}={value}" for name, value in flat.items()), *tags])),
            "config": {**config, **options, **flat},
        }
        if mode == "online" and (reason := self._try("could not be reached", lambda: self._init(mode, arguments))):
            self._set_aside(path for path in self._segments() if path not in earlier)
            _quiet(restart=True)  # the attempt that failed still holds the id
        if self._run is None:
            reason = self._try("could not start", lambda: self._init("offline", arguments)) or reason
        if self._run is None:
            _say(f"{reason}; metrics go to {_short(directory / 'metrics.jsonl')} only.")
            return
        if self._run.offline:
            sync = f"wandb sync {_short(self._directory)}/offline-run-*"
            _say(f"{reason}, so the run is kept offline; `{sync}` uploads it.")
        else:
            _say(f"this run is at {self._run.url}")
        self._guard(lambda: self._catch_up(JsonLines(directory / "metrics.jsonl"), earlier))

    def log(self, step: int, metrics: Mapping[str, float], stage: str) -> None:
        self._log(step, {f"{stage}/{name}": float(value) for name, value in metrics.items()}, stage)

    def image(self, name: str, path: Path, step: int | None) -> None:
        if self._run is None:
            return
        if step is None:
            self._guard(lambda: self._run.log({name: _image(path)}))
            return
        stage, slash, _ = name.partition("/")
        assert slash, f"the picture {name} of a step must be named <stage>/<what it shows>"
        if step > self._given.get(stage, -1):
            copy = self._directory / "images" / name / f"{step:08d}{path.suffix}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            self._log(step, {name: copy}, stage)

    def summary(self, metrics: Mapping[str, Any]) -> None:
        self._guard(lambda: self._run.summary.update(dict(metrics)))

    def finish(self, exit_code: int) -> None:
        if self._run is None:
            return
        run, self._run = self._run, None
        try:
            run.finish(exit_code=exit_code)
        except Exception as error:  # a server that does not answer must not turn a good run into a failed one
            segment = _short(Path(run.settings.sync_dir))
            _say(f"the upload did not end ({_first_line(error)}); `wandb sync --include-online {segment}` ends it.")

    def _choose_mode(self) -> tuple[str, str]:
        """The mode for `wandb.init` and, where it is "offline", the reason for it in words."""
        import wandb  # 0.6 s, which `--help` and the submitting process do without

        settings = _quiet().settings
        mode = settings.mode if self.mode == "auto" else self.mode
        if mode in ("offline", "dryrun"):
            return "offline", f"mode is {mode}"
        if mode == "disabled":
            return "disabled", ""
        try:
            has_key = wandb.login(prompt=False, verify=False)
            problem = "there is no key"
        except wandb.Error as error:
            has_key, problem = False, f"the key cannot be used ({_first_line(error)})"
        if has_key:
            return "online", ""
        if self.mode == "online":
            raise UserError(
                f"tracking.mode=online needs a Weights & Biases key, and {problem}. "
                "Type `wandb login` or set WANDB_API_KEY; tracking.mode=offline writes a run to upload later."
            )
        return "offline", f"{problem} (`wandb login` or WANDB_API_KEY gives one)"

    def _init(self, mode: Any, arguments: Mapping[str, Any]) -> None:
        import wandb

        settings = wandb.Settings(
            silent=True,
            console="off",  # what it captures are progress bars, and capturing disturbs them
            save_code=False,
            disable_code=True,
            disable_git=True,  # no patch of uncommitted work, no address with a password in it
            init_timeout=_CONNECT_SECONDS,
            finish_timeout=_UPLOAD_SECONDS,
            finish_timeout_raises=True,
        )
        self._run = wandb.init(settings=settings, **arguments, mode=mode)

    def _id(self, run_id: str) -> str:
        """The id on the server: the digest keeps apart runs of one name from two machines or users of a project."""
        path = self._directory / "id.txt"
        if not path.exists():
            name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in run_id)
            temporary = path.with_suffix(".tmp")
            temporary.write_text(f"{name[:100]}-{secrets.token_hex(4)}\n", encoding="utf-8")
            temporary.replace(path)
        return path.read_text(encoding="utf-8").strip()

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

        past: list[tuple[str, int, dict[str, Any]]] = [
            (stage, step, {f"{stage}/{name}": value for name, value in record.items()})
            for record in records
            for stage, step in [(record.pop("stage"), record.pop("step"))]
        ]
        images = self._directory / "images"
        for path in images.rglob("*.*"):
            name = path.parent.relative_to(images).as_posix()
            past.append((name.partition("/")[0], int(path.stem), {name: path}))
        order = {stage: i for i, (stage, _, _) in reversed(list(enumerate(past)))}
        for stage, step, values in sorted(past, key=lambda entry: (order[entry[0]], entry[1])):
            self._log(step, values, stage)
        for stage, step, _ in past:
            self._given[stage] = max(step, self._given.get(stage, -1))
        self._set_aside(unsent)  # what they hold is in this segment now

    def _segments(self) -> list[Path]:
        return [*self._directory.glob("run-*"), *self._directory.glob("offline-run-*")]

    @staticmethod
    def _set_aside(segments: Iterable[Path]) -> None:
        """Give the segments a name under which `wandb sync` does not find them."""
        for path in segments:
            path.rename(path.with_name(f"replaced-{path.name.partition('run-')[2]}"))

    def _log(self, step: int, values: dict[str, Any], stage: str) -> None:
        if self._run is None or step <= self._given.get(stage, -1):
            return
        if stage not in self._stages:
            self._stages.add(stage)
            self._guard(lambda: self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step"))
        row = values | {f"{stage}/step": step}
        self._guard(lambda: self._run.log({name: _image(v) if isinstance(v, Path) else v for name, v in row.items()}))

    def _guard(self, call: Callable[[], object]) -> None:
        """Call W&B; trouble there ends the tracking, not the run."""
        if self._run is not None and (trouble := self._try("stopped working", call)):
            run, self._run = self._run, None
            # Otherwise wandb's threads and its handler at Python's exit show tracebacks of their own.
            self._try("did not end", lambda: run.finish(exit_code=1))
            self._try("did not end", lambda: _quiet(restart=True))
            _say(f"{trouble}; metrics still go to metrics.jsonl.")

    @staticmethod
    def _try(what: str, call: Callable[[], object]) -> str:
        """Call; what went wrong, in words, or nothing."""
        try:
            call()
        except Exception as error:  # whatever wandb raises, a training run goes on without it
            return f"it {what} ({_first_line(error)})"
        return ""


def _quiet(restart: bool = False) -> Any:
    """The wandb of this process, told not to print."""
    import wandb

    if restart:
        wandb.teardown()
    return wandb.setup(wandb.Settings(silent=True))


def _image(path: Path) -> Any:
    import wandb

    return wandb.Image(str(path))


def _say(line: str) -> None:
    print(f"Weights & Biases: {line}", file=sys.stderr, flush=True)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _short(path: Path) -> str:
    return shlex.quote(min(str(path), os.path.relpath(path), key=len))
