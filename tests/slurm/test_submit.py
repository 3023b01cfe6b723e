"""`python train.py … hardware=slurm_…`: what is submitted, what is not, and that the command returns."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hldm.paths import CHECKOUT as ROOT
from hldm.run.directory import RunDirectory
from hldm.study import counted
from tests.conftest import Invoke
from tests.slurm.fake_slurm import FakeSlurm

GRID = ["-m", "geometry=poincare", "training.diffusion.steps=10,20", "tracking=none", "hardware=slurm_cpu"]
"""Two runs that share a first stage."""


def runs(study: str = "main") -> list[RunDirectory]:
    return RunDirectory.find(str(Path.cwd() / "outputs" / study))


def queue(slurm: FakeSlurm, **states: str) -> None:
    slurm.write(queue="".join(f"{job.removeprefix('j')}|{state}\n" for job, state in states.items()))


def test_a_grid_is_submitted_and_the_command_returns(invoke: Invoke, slurm: FakeSlurm) -> None:
    status, out, err = invoke(*GRID, "hardware.slurm.partition=main", "hardware.slurm.account=lab")
    assert (status, err) == (0, "")
    assert "2 runs share 1 first stage" in out
    assert "2 runs, after the first stages: at most" in " ".join(out.split())
    assert "hours of jobs" in out
    assert list(slurm.scripts) == [100, 101]
    stage, both = slurm.asked(100), slurm.asked(101)
    assert stage["job-name"] == "hldm-main-first-stages"
    assert "array" not in stage
    assert "dependency" not in stage
    assert 'hldm worker "$HLDM_RUN" part=first_stage' in slurm.scripts[100]
    assert both["array"] == "0-1%2"
    assert both["dependency"] == "afterany:100"
    assert (both["partition"], both["account"], both["open-mode"]) == ("main", "lab", "append")
    assert both["signal"] == "USR2@120"
    assert "requeue" in both
    assert "wckey" not in both
    assert both["cpus-per-task"] == "4"
    assert "gpus-per-node" not in both
    assert f"{sys.executable} -P -m hldm worker" in slurm.scripts[101]
    assert "srun --unbuffered" in slurm.scripts[101]
    assert "--cpus-per-task=4" in slurm.scripts[101].partition("srun --unbuffered")[2]

    folders = {int(folder.name): folder for folder in Path("outputs/main/.jobs").iterdir()}
    assert sorted(folders) == [1, 2]
    assert (folders[2] / "101_submission.sh").read_text() == slurm.scripts[101]
    listed = (folders[2] / "runs.txt").read_text().splitlines()
    assert sorted(listed) == [str(run.path) for run in runs()]
    for number, path in enumerate(listed):
        run = RunDirectory(Path(path))
        assert run.status["state"] == "submitted"
        assert run.status["job"] == {"scheduler": "slurm", "id": f"101_{number}", "name": "hldm-main"}
        assert run.config.hardware.slurm is None
        assert run.config.hardware.threads == 4
    [stage_folder] = (folders[1] / "runs.txt").read_text().splitlines()
    assert Path(stage_folder).parent == Path.cwd() / "outputs" / "first_stages"
    assert RunDirectory(Path(stage_folder)).status["job"]["id"] == "100"


def test_a_plan_for_a_model_of_gpu_counts_what_jobs_take(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = {"flops": 10**12, "parameters": 10**8, "kept_bytes": 10**8}
    counts = {"first_stage": stage, "diffusion": stage, "encode_flops": 1, "frozen_parameters": 1, "images": 1}
    monkeypatch.setattr(counted, "ask", lambda configs: [{**counts, "latent_bytes": 1} for _ in configs])
    status, out, _ = invoke("hardware=slurm_gpu", "hardware.gpu_model=h100", "plan=true", "tracking=none")
    assert status == 0
    assert "on one H100 (80 GB): first stage" in " ".join(out.split())


def test_a_repeat_submits_what_is_missing_only(invoke: Invoke, slurm: FakeSlurm) -> None:
    invoke(*GRID)
    queue(slurm, j100="RUNNING", j101_0="PENDING", j101_1="PENDING")
    status, out, _ = invoke(*GRID)
    assert status == 0
    assert "job 101_0: pending" in out
    assert list(slurm.scripts) == [100, 101]

    # another run of the same first stage waits for the job that trains it
    invoke(*GRID[:2], "training.diffusion.steps=10,30", *GRID[3:])
    assert list(slurm.scripts) == [100, 101, 102]
    assert slurm.asked(102)["dependency"] == "afterany:100"
    assert "array" not in slurm.asked(102)

    # one is finished, the jobs of the others are gone: those are submitted again
    queue(slurm)
    finished = next(run for run in runs() if run.config.training.diffusion.steps == 10)
    finished.write_results({"metrics": {}, "provenance": {}})
    finished.update_status(state="finished")
    status, out, _ = invoke(*GRID)
    assert "finished already" in out
    assert "its job is gone: again" in out
    assert list(slurm.scripts) == [100, 101, 102, 103]  # its first stage too: nobody shares it
    assert Path("outputs/main/.jobs/4/runs.txt").read_text().count("\n") == 1


def test_without_an_answer_of_slurm_nothing_is_submitted_twice(invoke: Invoke, slurm: FakeSlurm) -> None:
    invoke(*GRID)
    slurm.remove("queue")
    status, out, _ = invoke(*GRID)
    assert status == 0
    assert "job 101_0: unknown" in out
    assert list(slurm.scripts) == [100, 101]
    # nor are they begun on this machine beside their jobs
    status, out, _ = invoke("-m", *GRID[1:-1])
    assert "job 101_0: unknown" in out
    assert not list(Path("outputs").glob("*/*/starts"))


def test_one_run_without_m_is_submitted_too(invoke: Invoke, slurm: FakeSlurm) -> None:
    status, _, err = invoke("seed=3", "tracking=none", "hardware=slurm_gpu", "hardware.threads=2")
    assert (status, err) == (0, "")
    assert list(slurm.scripts) == [100]
    assert slurm.asked(100)["gpus-per-node"] == "1"
    [run] = runs()
    assert (run.config.hardware.device, run.config.hardware.threads) == ("cuda", 2)
    assert "OMP_NUM_THREADS=2" in slurm.scripts[100]
    assert run.status["job"]["id"] == "100"


@pytest.mark.parametrize("hardware", ["slurm_gpu", "auto"])
@pytest.mark.parametrize("grid", [["-m", "seed=0,1"], ["seed=0"]])
def test_a_plan_does_nothing(hardware: str, grid: list[str], invoke: Invoke, slurm: FakeSlurm) -> None:
    status, out, err = invoke(*grid, "plan=true", "tracking=none", f"hardware={hardware}")
    assert (status, err) == (0, "")
    assert "new" in out
    assert slurm.scripts == {}
    assert not list(Path("outputs").glob("*/*"))
    assert ("#SBATCH --gpus-per-node=1" in out) == (hardware == "slurm_gpu")


def test_a_plan_needs_no_slurm(invoke: Invoke, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    status, out, _ = invoke(*GRID, "plan=true")
    assert status == 0
    assert "#SBATCH --array=0-1%2" in out
    status, _, err = invoke(*GRID)
    assert status == 2
    assert "login node" in err
    assert not Path("outputs").exists()


def test_a_damaged_first_stage_stops_nobody(invoke: Invoke, slurm: FakeSlurm) -> None:
    invoke(*GRID)
    queue(slurm)
    [status_file] = Path("outputs/first_stages").glob("*/status.json")
    status_file.write_text("{")
    status, _, err = invoke(*GRID)
    assert (status, err) == (0, "")
    assert list(slurm.scripts) == [100, 101, 102, 103]


def test_a_refusal_of_sbatch_leaves_the_runs_as_they_were(invoke: Invoke, slurm: FakeSlurm) -> None:
    slurm.write(refusal="sbatch: error: Batch job submission failed: Invalid account\n")
    status, _, err = invoke(*GRID, "hardware.slurm.account=nobody")
    assert status == 2
    assert "Invalid account" in " ".join(err.split())
    assert "Traceback" not in err
    assert {run.status["state"] for run in runs()} <= {"new"}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["hardware.slurm.partition=nope"], ["no partition nope", "main, short"]),
        (["hardware.slurm.partition=short", "hardware.slurm.timeout_min=30"], ["timeout_min=30", "20 minutes"]),
        (["hardware.slurm.timeout_min=3"], ["timeout_min=3", "metrics"]),
        (["hardware.threads=8"], ["hardware.threads=8", "hardware.slurm.cpus_per_task=8"]),
        (["hardware.slurm.tasks_per_node=2"], ["slurm_ddp"]),
        (["hardware.slurm.signal_delay_s=5"], ["signal_delay_s=5", "≥ 10"]),
        (["hardware.slurm.partitoin=main"], ["Did you mean hardware.slurm.partition"]),
        (["hardware.slurm.setup=['export WANDB_API_KEY=abc']"], ["WANDB_API_KEY", "cat FILE"]),
        (["plan=maybe"], ["plan=maybe", "plan=true"]),
    ],
)
def test_what_cannot_be_is_refused(typed: list[str], said: list[str], invoke: Invoke, slurm: FakeSlurm) -> None:
    status, _, err = invoke("-m", "seed=0,1", "tracking=none", "hardware=slurm_cpu", *typed)
    assert status == 2
    assert "Traceback" not in err
    for part in said:
        assert part in " ".join(err.split())
    assert slurm.scripts == {}


def test_a_local_grid_cannot_return_early(invoke: Invoke) -> None:
    status, _, err = invoke("-m", "seed=0,1", "wait=false")
    assert status == 2
    assert "hardware=slurm_gpu" in err
    status, _, _ = invoke("-m", "seed=0", "tracking=none", "wait=true")
    assert status == 0


def test_submitting_takes_no_torch_and_little_memory(slurm: FakeSlurm, tmp_path: Path) -> None:
    code = (
        "import re, sys; from pathlib import Path; from hldm import console; from hldm.commands import train;"
        "status = console.run(lambda: train.main(sys.argv[1:]));"
        "peak = int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024;"
        "print('MEASURED', status, 'torch' in sys.modules, peak)"
    )
    argv = [sys.executable, "-c", code, *GRID, f"paths.outputs={tmp_path / 'outputs'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True)
    status, has_torch, peak = done.stdout.split("MEASURED")[1].split()
    assert (status, has_torch) == ("0", "False")
    assert int(peak) < 150
    assert list(slurm.scripts) == [100, 101]


def test_a_job_does_not_hand_its_variables_on(
    invoke: Invoke, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Submitting from an interactive job is usual."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "16")
    invoke(*GRID)
    assert "SLURM_NTASKS" not in (slurm.folder / "101.env").read_text()
    assert os.environ["SLURM_NTASKS"] == "16"


def test_several_processes_of_a_run_get_the_variables_of_torchrun(invoke: Invoke, slurm: FakeSlurm) -> None:
    status, _, err = invoke("seed=0", "tracking=none", "hardware=slurm_ddp", "hardware.slurm.nodes=2")
    assert (status, err) == (0, "")
    asked, script = slurm.asked(100), slurm.scripts[100]
    assert (asked["nodes"], asked["ntasks-per-node"], asked["gpus-per-node"]) == ("2", "2", "2")
    ranks = script.partition("# command")[2].splitlines()[2]
    line = ranks.replace(
        f'{sys.executable} -P -m hldm worker "$HLDM_RUN"', "printenv RANK LOCAL_RANK WORLD_SIZE MASTER_ADDR"
    )
    environment = {**os.environ, "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NTASKS": "4"}
    environment |= {"SLURM_JOB_NUM_NODES": "2", "SLURM_LAUNCH_NODE_IPADDR": "127.0.0.1"}
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "1", "4", "127.0.0.1"]


def test_job_json_says_what_was_submitted(invoke: Invoke, slurm: FakeSlurm) -> None:
    invoke(*GRID)
    about = json.loads(Path("outputs/main/.jobs/2/job.json").read_text())
    assert about["job"] == "101"
    assert about["part"] == "run"
    assert len(about["source"]) == 16
