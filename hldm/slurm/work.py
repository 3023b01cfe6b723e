"""What a job does beside its run: look before it whether there is something to do, decide after it what follows.

A run that got further than in its job's last start is started again, whatever ended it: preemption, the end of its
time, a node. One that did not has failed, but that what asked it to stop may have come too early a few times.
"""

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hldm.errors import UserError
from hldm.files import content_digest
from hldm.run import exits, jobs, lease
from hldm.run.directory import MODEL, RunDirectory, now, write_json
from hldm.run.holder import Holder
from hldm.run.identity import first_stage_folder
from hldm.run.output import note
from hldm.run.provenance import source_digest
from hldm.slurm.arrays import missing_first_stage
from hldm.slurm.script import AGAIN, LATER, NOTHING

PATIENCE = 3
"""Starts one after the other that may be stopped before they got any further."""


@dataclass(frozen=True)
class Job:
    """A start of a job for one directory.

    Attributes:
        run: the directory.
        folder: of the job's array.
        part: "run" or "first_stage".
    """

    run: RunDirectory
    folder: Path
    part: str

    def begin(self) -> int:
        """0 where there is work to do; LATER where it is too early for it, NOTHING where there is none."""
        me = jobs.current() or {"id": None}
        for file in self.run.set_aside_damaged():
            print(f"{file.with_suffix('')} is damaged: it is {file.name} now, and is made again", flush=True)
        snapshot = self.run.snapshot()
        if snapshot.state == "finished" or (
            self.part == "first_stage" and missing_first_stage(self.run.config) is None
        ):
            return self._nothing("finished already")
        if snapshot.state == "cancelled":
            return self._nothing("cancelled")
        if other := self._other():
            return self._nothing(f"being worked on by {other}")
        self.run.update_status(job=me)
        note(self.run.path, f"--- {now()}: job {me['id']} writes to {self._log(me['id'])}")
        self._say_whether_the_code_changed()
        if (stage := self._first_stage()) is not None and (verdict := self._look_at_first_stage(stage)):
            return verdict
        self._attempts_file(me["id"]).parent.mkdir(exist_ok=True)
        write_json(self._attempts_file(me["id"]), {**self._attempt(me["id"]), "saved": saved(self.run)})
        return 0

    def end(self, code: int, facts: str) -> int:
        """AGAIN where the job is to be started again, NOTHING where all is said; else the run's own exit status.

        Args:
            code: exit status of the run.
            facts: what scontrol says of the job, JobState=… Reason=… Restarts=….
        """
        if code == 0:
            return 0
        if self.run.state == "finished":  # a signal met the process between its last line and its end
            return self._nothing("finished")
        if other := self._other():  # whose run it is now: this one was too late, or was taken for dead
            return self._nothing(f"being worked on by {other}")
        if self.run.state == "cancelled":
            return self._nothing("cancelled")
        status = self.run.status
        if _is_requeued(facts):
            self.run.update_status(state="submitted")
            return self._nothing("goes on in another start of this job, which SLURM has queued again")
        if "JobState=CANCELLED" in facts or ("JobState=COMPLETING" in facts and "Reason=TimeLimit" not in facts):
            self.run.update_status(state="cancelled", ended=now())
            return self._nothing("cancelled; the same command submits it again, and it goes on from there")
        me = jobs.current() or {"id": None}
        if code == exits.BUSY and jobs.job_of(status) != me["id"]:
            return self._nothing("being worked on by another job")
        if code == AGAIN and (stage := self._first_stage()) is not None and stage.holder():
            self.run.update_status(state="submitted")
            return LATER  # it has waited for that
        before = self._attempt(me["id"])
        has_advanced = saved(self.run) != before.get("saved")
        idle = 0 if has_advanced else int(before.get("idle") or 0) + 1
        write_json(self._attempts_file(me["id"]), {**before, "idle": idle})
        patience = PATIENCE if code in (AGAIN, exits.BUSY) else self.run.config.hardware.retry
        if has_advanced or idle <= patience:
            print(
                f"{self.run.path.name}: ended with status {code}, and goes on in another start of this job", flush=True
            )
            self.run.update_status(state="submitted")
            return AGAIN
        why = status.get("error") if status.get("state") == "failed" else None
        why = why or (
            f"stopped {idle} times before it got any further" if code == AGAIN else f"ended with status {code}"
        )
        self.run.update_status(state="failed", ended=now(), error=f"{why} (see {self._log(me['id'])})")
        print(f"{self.run.path.name}: FAILED: {why}", flush=True)
        return code

    def _other(self) -> Holder | None:
        """Who works on the run and is no process of this start: after a kill, its own lease is warm for a while."""
        holder, mine = lease.holder(self.run.path), Holder.this_process()
        is_mine = holder is not None and (holder.job, holder.restart) == (mine.job, mine.restart)
        return None if is_mine else holder

    def _nothing(self, why: str) -> int:
        print(f"{self.run.path.name}: {why}", flush=True)
        return NOTHING

    def _first_stage(self) -> RunDirectory | None:
        """The first stage that a run still needs; None where it has it, or is one itself."""
        if self.part != "run" or (self.run.path / MODEL).is_file():
            return None
        folder = missing_first_stage(self.run.config)
        return None if folder is None else RunDirectory(folder)

    def _look_at_first_stage(self, stage: RunDirectory) -> int:
        """0 where this run may train it, or take it; nobody waits for it on a node."""
        if holder := stage.holder():
            print(
                f"{self.run.path.name}: its first stage is being trained by {holder}: this job comes back", flush=True
            )
            self.run.update_status(state="submitted")
            return LATER
        status = stage.look().status
        if status["state"] != "failed":
            return 0
        error = f"its first stage, {stage.path}, failed: {status.get('error')}"
        self.run.update_status(state="failed", ended=now(), error=error)
        print(f"{self.run.path.name}: FAILED: {error}", flush=True)
        return 1

    def _say_whether_the_code_changed(self) -> None:
        submitted = _read(self.folder / "job.json").get("source")
        if submitted and submitted != source_digest():
            sentence = "The code has changed since this job was submitted; the run works with the code as it is now."
            print(sentence, flush=True)
            self.run.update_status(code_changed=now())

    def _log(self, job: str | None) -> Path:
        """What the first process of a job writes to, as submitit names it."""
        return self.folder / f"{job}_0_log.out"

    def _attempts_file(self, job: str | None) -> Path:
        return self.folder / "attempts" / f"{job}.json"

    def _attempt(self, job: str | None) -> dict[str, Any]:
        return _read(self._attempts_file(job))


def _is_requeued(facts: str) -> bool:
    """Whether SLURM itself has queued the job again, when it was preempted or by `scontrol requeue`.

    It then kills the job as if that were cancelled, and says another number of restarts than this start began with.
    """
    restarts = re.search(r"Restarts=(\d+)", facts)
    return restarts is not None and int(restarts[1]) > int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def saved(run: RunDirectory) -> dict[str, str]:
    """File → a hash of its content, of all that the run goes on from when it is started again.

    Not its time: a run that fails at one step again and again may save that step each time.
    """
    folders = [run.path, run.path / "checkpoints"]
    with suppress(UserError):
        config = run.config
        if config.first_stage is None and (stage := first_stage_folder(config)) != run.path:
            folders.append(stage)  # also a whole one: a start that trained it got somewhere
    files = [file for folder in folders if folder.is_dir() for file in folder.iterdir() if file.is_file()]
    kept = [file for file in files if file.suffix in (".pt", ".safetensors") or file.name == "results.json"]
    return {str(file): content_digest([file]) for file in sorted(kept)}


def _read(file: Path) -> dict[str, Any]:
    """What a file of ours says, {} where it is not there or damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
