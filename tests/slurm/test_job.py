"""What a job does beside its run: look before it, decide after it, and the script that ties both together."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hldm.config.compose import compose
from hldm.config.schema import Paths, RunConfig
from hldm.config.slurm import Slurm
from hldm.paths import CHECKOUT as ROOT
from hldm.run import exits, jobs
from hldm.run.directory import RunDirectory
from hldm.run.identity import FIRST_STAGE_WEIGHTS, first_stage_folder
from hldm.run.provenance import source_digest
from hldm.slurm.script import AGAIN, LATER, NOTHING, Executor
from hldm.slurm.work import Job
from tests.conftest import FAKE
from tests.slurm.fake_slurm import FakeSlurm

RUNNING = "JobState=RUNNING Reason=None "


@cache
def usual() -> RunConfig:
    return compose(["tracking=none", "hardware=cpu", "hardware.threads=1"])


@pytest.fixture
def run(tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    config = usual().model_copy(update={"paths": Paths(outputs=str(tmp_path / "outputs"))})
    made = RunDirectory.create(tmp_path / "outputs" / "main" / "x", config)
    made.update_status(state="submitted", job={"scheduler": "slurm", "id": "7_0", "name": "hldm-main"})
    return made


@pytest.fixture
def job(run: RunDirectory) -> Job:
    folder = run.path.parent / ".jobs" / "1"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"source": source_digest()}))
    return Job(run, folder, "run")


def save(run: RunDirectory, step: int) -> None:
    (run.path / "checkpoints").mkdir(exist_ok=True)
    (run.path / "checkpoints" / "diffusion.resume.pt").write_text(str(step))


def test_a_run_that_got_further_is_started_again_whatever_ended_it(job: Job, run: RunDirectory) -> None:
    for step, code in enumerate((75, 1, 137, 76)):
        assert job.begin() == 0
        save(run, step)
        run.update_status(state="failed" if code == 1 else "running", error="no luck")
        assert job.end(code, RUNNING) == AGAIN
        assert run.status["state"] == "submitted"


def test_a_run_that_did_not_get_further_has_failed_and_names_its_log(
    job: Job, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    save(run, 1)
    assert job.begin() == 0
    save(run, 1)  # the same step was saved again
    run.update_status(state="failed", error="RuntimeError: no luck")
    assert job.end(1, RUNNING) == 1
    assert run.status["state"] == "failed"
    assert run.status["error"] == f"RuntimeError: no luck (see {job.folder / '7_0_0_log.out'})"
    assert f": job 7_0 writes to {job.folder / '7_0_0_log.out'}\n" in (run.path / "log.txt").read_text()
    assert "FAILED: RuntimeError: no luck" in capsys.readouterr().out


def test_a_run_that_finished_stays_so_whatever_its_process_says(job: Job, run: RunDirectory) -> None:
    """The signal before the end of a job's time may come after the last line of a run."""
    assert job.begin() == 0
    run.write_results({"metrics": {}})
    run.update_status(state="finished")
    assert job.end(140, RUNNING) == NOTHING
    assert run.state == "finished"


def test_a_start_that_trained_the_first_stage_got_further(job: Job, run: RunDirectory) -> None:
    """Also where it was killed before the second stage saved anything."""
    assert job.begin() == 0
    stage = first_stage_folder(run.config)
    stage.mkdir(parents=True, exist_ok=True)
    (stage / FIRST_STAGE_WEIGHTS).write_text("weights")
    assert job.end(137, RUNNING) == AGAIN


def test_who_is_stopped_too_early_has_a_few_tries(job: Job, run: RunDirectory) -> None:
    answers = []
    for _ in range(4):
        assert job.begin() == 0
        run.update_status(state="stopped")
        answers.append(job.end(75, RUNNING))
    assert answers == [AGAIN] * 3 + [75]
    assert "stopped 4 times before it got any further" in run.status["error"]


@pytest.mark.parametrize("facts", ["JobState=CANCELLED Reason=None ", "JobState=COMPLETING Reason=None "])
def test_who_cancels_a_job_does_not_see_it_again(facts: str, job: Job, run: RunDirectory) -> None:
    assert job.begin() == 0
    save(run, 1)
    assert job.end(75, facts) == NOTHING
    assert run.status["state"] == "cancelled"
    assert job.begin() == NOTHING


def test_a_job_that_slurm_has_queued_again_is_no_cancelled_one(
    job: Job, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Preempted without having stopped in time, or by `scontrol requeue`: SLURM starts it, and nobody else does."""
    killed = "JobState=COMPLETING Reason=None Restarts=2 "
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert job.begin() == 0
    assert job.end(137, killed) == NOTHING
    assert run.status["state"] == "submitted"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert job.begin() == 0
    assert job.end(137, killed) == NOTHING
    assert run.status["state"] == "cancelled"


@pytest.mark.parametrize("code", [exits.BUSY, exits.FAILED])
def test_a_job_says_nothing_of_a_run_that_is_another_ones_by_now(
    code: int, job: Job, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither before nor after its own try: one that was begun by hand, or a later start of the same job."""
    assert job.begin() == 0
    for restart in ("", "1"):  # by hand, outside of any job; the next start of this one
        with monkeypatch.context() as other:
            if restart:
                other.setenv("SLURM_RESTART_COUNT", restart)
            else:
                other.delenv("SLURM_JOB_ID")
            held = run.lock()
            held.__enter__()
        before = (run.path / "status.json").read_bytes()
        assert job.end(code, RUNNING) == NOTHING
        assert job.begin() == NOTHING
        assert (run.path / "status.json").read_bytes() == before
        held.__exit__(None, None, None)
    assert job.begin() == 0


def test_the_end_of_its_time_is_no_cancelling(job: Job, run: RunDirectory) -> None:
    assert job.begin() == 0
    save(run, 1)
    assert job.end(137, "JobState=COMPLETING Reason=TimeLimit ") == AGAIN


def test_a_finished_run_is_left_alone(job: Job, run: RunDirectory) -> None:
    run.write_results({"metrics": {}, "provenance": {}})
    run.update_status(state="finished")
    before = (run.path / "status.json").read_bytes()
    assert job.begin() == NOTHING
    assert (run.path / "status.json").read_bytes() == before
    assert job.end(0, RUNNING) == 0


def test_a_run_that_another_one_works_on_is_left_to_it(
    job: Job, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.update_status(job={"scheduler": "slurm", "id": "5", "name": "other"})
    with monkeypatch.context() as other:
        other.setenv("SLURM_ARRAY_JOB_ID", "5")
        held = run.lock()
        held.__enter__()
    assert job.begin() == NOTHING
    held.__exit__(None, None, None)
    assert run.status["job"]["id"] == "5"
    assert job.end(76, RUNNING) == NOTHING


def test_nobody_waits_on_a_node_for_a_first_stage(job: Job, run: RunDirectory) -> None:
    stage = RunDirectory(first_stage_folder(run.config))
    with stage.lock():
        assert job.begin() == LATER
    assert run.status["state"] == "submitted"
    assert job.begin() == 0
    with stage.lock():  # taken meanwhile, and waited for as long as a job does
        assert [job.end(75, RUNNING) for _ in range(5)] == [LATER] * 5
    stage.update_status(state="failed", error="no luck")
    assert job.begin() == 1
    assert "its first stage" in run.status["error"]
    assert "no luck" in run.status["error"]
    (stage.path / FIRST_STAGE_WEIGHTS).touch()
    assert job.begin() == 0


def test_code_that_changed_since_the_submission_is_said(
    job: Job, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job.begin() == 0
    assert capsys.readouterr().out == ""
    (job.folder / "job.json").write_text(json.dumps({"source": "another"}))
    assert job.begin() == 0
    assert "code has changed since this job was submitted" in capsys.readouterr().out
    assert run.status["code_changed"]


def test_a_damaged_status_is_made_again(job: Job, run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    stage = first_stage_folder(run.config)
    stage.mkdir(parents=True)
    for folder in (run.path, stage):
        (folder / "status.json").write_text("{")
    assert job.begin() == 0
    assert "status.json is damaged" in capsys.readouterr().out
    assert run.status["job"]["id"] == "7_0"


def script(job: Job, tmp_path: Path, **settings: Any) -> str:
    """The script of an array for this run alone, with the pipeline that stands in for the real one."""
    python = tmp_path / "python"
    worker = f'[ -z "$STOP" ] || exit 75; exec {sys.executable} -P {FAKE} "$HLDM_RUN"'
    lines = f'case "$*" in *"hldm worker"*) {worker} ;; esac\nexec {sys.executable} "$@"'
    python.write_text(f"#!/bin/sh\n{lines}\n")
    python.chmod(0o755)
    executor = Executor(job.folder, Slurm(python=str(python), **settings), threads=1, part="run")
    (job.folder / "runs.txt").write_text(f"{job.run.path}\n/nowhere\n")
    executor.prepare(name="x", tasks=2, minutes=10, parallel=1, after=[])
    return executor.text()


def execute(text: str, tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "script.sh"
    file.write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "USER": "me", **variables}
    return subprocess.run(["bash", str(file)], env=environment, capture_output=True, text=True, cwd=tmp_path)


def test_the_script_brings_a_run_to_its_end(job: Job, slurm: FakeSlurm, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    text = script(job, tmp_path, scratch=str(scratch), umask="0027", setup=("export MINE=1",), conda=None)
    done = execute(text, tmp_path)
    assert done.returncode == 0, done.stderr
    assert job.run.snapshot().state == "finished"
    assert (job.run.path / "environment").read_text() == "1 4000"
    assert (job.run.path / "results.json").stat().st_mode & 0o027 == 0
    assert list(scratch.iterdir()) == []  # what is temporary is gone
    assert f'export HLDM_SCRATCH="{scratch}" TMPDIR="{scratch}/hldm-$USER-$SLURM_JOB_ID"' in text
    assert slurm.requeued() == []
    assert text.index("export MINE=1") < text.index("hldm worker")
    again = execute(text, tmp_path)
    assert again.returncode == 0
    assert "finished already" in again.stdout
    assert (job.run.path / "starts").read_text() == "x"


def test_the_script_starts_a_preempted_run_again(job: Job, slurm: FakeSlurm, tmp_path: Path) -> None:
    """Killed on its first start, it has not saved anything: it fails. Stopped on request, it goes on."""
    text = script(job, tmp_path)
    done = execute(text, tmp_path, FAKE="kill euclidean")
    assert done.returncode == 137
    assert slurm.requeued() == []
    assert "ended with status 137" in job.run.status["error"]
    done = execute(text, tmp_path, STOP="yes")
    assert done.returncode == 0, done.stderr
    assert slurm.requeued() == ["7_0"]


def test_the_script_comes_back_later_while_others_train_its_first_stage(
    job: Job, slurm: FakeSlurm, tmp_path: Path
) -> None:
    with RunDirectory(first_stage_folder(job.run.config)).lock():
        done = execute(script(job, tmp_path), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "comes back" in done.stdout
    assert slurm.requeued() == ["7_0"]
    assert (slurm.folder / "updated").read_text() == "JobId=7_0 StartTime=now+300\n"
    assert not (job.run.path / "starts").exists()


def test_modules_container_and_environment_stand_before_the_run(job: Job, tmp_path: Path) -> None:
    text = script(
        job, tmp_path, modules=("cuda/12.4",), conda="hldm", container="apptainer exec --nv hldm.sif",
        srun_args=("--mpi=none",), additional_parameters={"mail-type": "END"},
    )  # fmt: skip
    assert "module load cuda/12.4" in text
    assert "conda activate hldm" in text
    assert f"apptainer exec --nv hldm.sif {tmp_path / 'python'} -P -m hldm worker" in text
    assert (
        f"srun --ntasks=1 --nodes=1 --mpi=none apptainer exec --nv hldm.sif {tmp_path / 'python'} -P -m hldm.slurm"
        in text
    )
    assert "#SBATCH --mail-type=END" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0


def test_what_slurm_says_of_jobs(slurm: FakeSlurm) -> None:
    slurm.write(queue="7_0|RUNNING\n7_1|PENDING\n9|CANCELLED\n")
    assert jobs.states(["7_0", "7_1", "9", "12"]) == {
        "7_0": "RUNNING", "7_1": "PENDING", "9": "CANCELLED", "12": "GONE",
    }  # fmt: skip
    slurm.write(accounts="12|CANCELLED by 1000\n13|COMPLETED\n")
    assert jobs.states(["12"]) == {"12": "CANCELLED"}
    slurm.remove("queue")
    assert jobs.states(["12"]) == {"12": "UNKNOWN"}


def test_a_question_to_slurm_takes_a_bounded_time(slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    (slurm.folder / "bin" / "squeue").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(jobs, "PATIENCE", 0.2)
    assert jobs.states(["12"]) == {"12": "UNKNOWN"}


def test_a_job_that_is_forgotten_is_gone(slurm: FakeSlurm) -> None:
    """squeue of one unknown job is an error."""
    (slurm.folder / "bin" / "squeue").write_text("#!/bin/sh\necho 'error: Invalid job id specified' >&2; exit 1\n")
    assert jobs.states(["12"]) == {"12": "GONE"}
