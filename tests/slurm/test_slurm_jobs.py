"""Whole runs as jobs of a real SLURM, disturbed in every way that a cluster knows, against the same runs left alone.

Those that are disturbed are submitted at once, each is disturbed when it has begun, and each test looks at one ending:
weights, curves and results have to be those of the local run, bit for bit. There is no accounting database.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hldm.run.directory import RunDirectory
from tests.slurm.cluster import ROOT, DevCluster, is_alive, processes_of, wait_for, why_not

pytestmark = [
    pytest.mark.skipif(why_not() is not None, reason=f"no SLURM here: {why_not()}"),
    pytest.mark.timeout(2400),  # seconds that a busy machine may need; an idle one is far below
]

TINY = [
    *("dataset=circles", "autoencoder=mlp", "denoiser=mlp", "diffusion=paced", "metrics=vectors", "tracking=none"),
    *("hardware.threads=1", "autoencoder.hidden=8", "denoiser.width=16"),
    *("training.first_stage.steps=6", "training.diffusion.steps=30"),
    *("training.checkpoint_every=5", "training.log_every=1"),
    *("metrics.first_stage_images=100", "metrics.likelihood.images=8", "metrics.likelihood.importance_samples=50"),
    *("metrics.likelihood.checked_images=4", "metrics.likelihood.spacing=0.5"),
    *("metrics.hierarchy.points=40", "metrics.hierarchy.draws=3", "metrics.hierarchy.test_points=20"),
]
SLOW = "diffusion.process.pause=0.4"
"""A pace at which there is time to disturb a run: its second stage takes 12 seconds, without work for a processor."""


def until(file: Path) -> tuple[str, str]:
    """A pace at which a run does not end before this file is there, however busy the machine is."""
    return "diffusion.process.pause=15", f"diffusion.process.until={file}"


SITE = """
cpus_per_task: 1
timeout_min: 20
signal_delay_s: 10
"""

MOST = 9
"""More than half of the cores of a node."""

SWEEP = ["-m", "seed=0,1", "denoiser.width=16,32"]
ARRAY = 3
"""MaxArraySize: the four runs of the sweep are more."""

ENOUGH = 900
"""Seconds after which whatever is waited for does not come any more, also on two busy cores."""


@dataclass(frozen=True)
class Scenario:
    """A command, and what happens to its run while that is in its second stage."""

    arguments: tuple[str, ...]
    disturb: Callable[[DevCluster, RunDirectory], None] | None = None


def held_on(node: str) -> str:
    """A job of this node that waits for `scontrol release`."""
    return f"hardware.slurm.additional_parameters={{nodelist:{node},hold:true}}"


HELD = "+hardware.slurm.additional_parameters.hold=true"


@contextmanager
def only_node(node: str, cluster: DevCluster) -> Iterator[None]:
    """Jobs that start within the block do so on this node, and may start anywhere afterwards."""
    other = {"n1": "n2", "n2": "n1"}[node]
    cluster.call("scontrol", "update", f"NodeName={other}", "State=DRAIN", "Reason=test")
    yield
    cluster.call("scontrol", "update", f"NodeName={other}", "State=RESUME")


def start(job: str, cluster: DevCluster) -> None:
    cluster.call("scontrol", "release", job)
    wait_for(lambda: cluster.jobs()[job] == "RUNNING", f"a start of {job}")


def job_of(run: RunDirectory) -> str:
    return run.status["job"]["id"]


def urgent_work(cluster: DevCluster, run: RunDirectory) -> None:
    """A job of another partition needs the cores that this one has."""
    where = ("--partition=urgent", "--nodelist=n1", f"--cpus-per-task={MOST}")
    cluster.call("sbatch", *where, "--output=/dev/null", "--wrap", "sleep 1")


def no_more_time(cluster: DevCluster, run: RunDirectory) -> None:
    """The job's time is nearly over. SLURM looks at that every half minute, and warns early enough for that."""
    end = time.strftime("%FT%T", time.localtime(time.time() + 41))
    cluster.call("scontrol", "update", f"JobId={job_of(run)}", f"EndTime={end}")


def sigkill(cluster: DevCluster, run: RunDirectory) -> None:
    """The run's process is killed, as the system does where memory runs out."""
    os.kill(run.status["pid"], signal.SIGKILL)


def power_cut(cluster: DevCluster, run: RunDirectory) -> None:
    """The node is gone, with all its processes."""
    assert cluster.command("kill", "n2").returncode == 0


def cancel(cluster: DevCluster, run: RunDirectory) -> None:
    """As `hldm runs cancel` does it, without the wait for its end."""
    run.mark_cancelled()
    cluster.call("scancel", job_of(run))


def asked_to_stop(cluster: DevCluster, run: RunDirectory) -> None:
    """By hand, so that it goes on elsewhere."""
    cluster.call("scancel", "--signal=TERM", job_of(run))


TWO_RANKS = (
    *("hardware=slurm_ddp", "hardware.device=cpu", "hardware.slurm.gpus_per_node=0", "hardware.slurm.tasks_per_node=2"),
    "seed=2",
)

SCENARIOS = {
    "preempted": Scenario((SLOW, held_on("n1"), f"hardware.slurm.cpus_per_task={MOST}"), urgent_work),
    "time": Scenario(("diffusion.process.pause=2", held_on("n1")), no_more_time),
    "killed": Scenario((SLOW, held_on("n1")), sigkill),
    "node": Scenario((SLOW, HELD), power_cut),
    "ranks": Scenario((SLOW, *TWO_RANKS, held_on("n1")), asked_to_stop),
    "cancelled": Scenario((SLOW, held_on("n1")), cancel),
}


def environment() -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    return {"HLDM_PLUGINS": "paced.sections", "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def train(cluster: DevCluster, outputs: Path, *arguments: str, launcher: tuple[str, ...] = (), **more: str) -> str:
    """What `train.py` prints. What is typed later counts."""
    arguments = tuple({argument.partition("=")[0]: argument for argument in arguments}.values())
    typed = {argument.partition("=")[0] for argument in arguments}
    tiny = [setting for setting in TINY if setting.partition("=")[0] not in typed]
    command = [sys.executable, *launcher, ROOT / "train.py", *arguments, *tiny, f"paths.outputs={outputs}"]
    return cluster.call(*command, **environment(), **more)


def runs_in(outputs: Path) -> list[RunDirectory]:
    return [RunDirectory(file.parent) for file in sorted(outputs.glob("main/*/config.yaml"))]


def logs_of(outputs: Path) -> str:
    return "\n".join(f"--- {file}\n{file.read_text()[-3000:]}" for file in outputs.glob("main/.jobs/*/*.out"))


def facts(run: RunDirectory) -> dict[str, object]:
    """What must not depend on where and how often a run was started."""
    curve = (run.path / "metrics.jsonl").read_text()
    weights = (run.path / "checkpoints" / "model.safetensors").read_bytes()
    return {"weights": weights, "curve": curve, "metrics": run.results["metrics"]}


def finished(outputs: Path, runs: int = 1) -> Callable[[], bool]:
    return lambda: sum(run.state == "finished" for run in runs_in(outputs)) == runs


def is_under_way(outputs: Path) -> bool:
    """Whether the run has begun with its second stage."""
    files = list(outputs.glob("main/*/metrics.jsonl"))
    return any('"diffusion"' in file.read_text() for file in files)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = DevCluster(tmp_path_factory.mktemp("hpc"))
    settings = (f"MaxArraySize={ARRAY}", "KillWait=10")
    up = ("up", "--cpus", "16", "--grace", "15", *(word for setting in settings for word in ("--set", setting)))
    assert cluster.command(*up).returncode == 0
    site = cluster.folder / "site.yaml"
    site.write_text(SITE)
    cluster.environment["HLDM_SITE"] = str(site)
    cluster.up = up
    yield cluster
    cluster.command("down")


@pytest.fixture(scope="module")
def alone(cluster, tmp_path_factory):
    """Outputs of the sweep on this machine, which nothing disturbs."""
    outputs = tmp_path_factory.mktemp("alone")
    train(cluster, outputs, *SWEEP, "hardware=cpu")
    train(cluster, outputs, "seed=2", "hardware=cpu", launcher=TORCHRUN)
    return outputs


@pytest.fixture(scope="module")
def submitted(cluster, tmp_path_factory):
    """Outputs of each scenario, once all are submitted and disturbed."""
    outputs = {name: tmp_path_factory.mktemp(name) for name in ("sweep", *SCENARIOS)}
    for name, scenario in SCENARIOS.items():
        said = train(cluster, outputs[name], "hardware=slurm_cpu", *scenario.arguments)
        assert "Submitted" in said
    with only_node("n2", cluster):
        [run] = runs_in(outputs["node"])
        start(job_of(run), cluster)
    for name in set(SCENARIOS) - {"node"}:
        [run] = runs_in(outputs[name])
        cluster.call("scontrol", "release", job_of(run))
    waiting = dict(SCENARIOS)
    deadline = time.monotonic() + ENOUGH
    while waiting:
        assert time.monotonic() < deadline, f"{[*waiting]} did not begin: {cluster.state()}"
        for name in list(waiting):
            [run] = runs_in(outputs[name])
            if is_under_way(outputs[name]):
                waiting.pop(name).disturb(cluster, run)
        time.sleep(0.2)
    assert cluster.command(*cluster.up).returncode == 0  # the node has power again
    train(cluster, outputs["sweep"], *SWEEP, "hardware=slurm_cpu")
    [late] = map(job_of, runs_in(outputs["time"]))
    wait_for(lambda: cluster.detail(late)["Restarts"] != "0", "a second start of the one without time", ENOUGH)
    cluster.call("scontrol", "update", f"JobId={late}", "TimeLimit=20")  # SLURM has kept the short one
    return outputs


def same_as_alone(alone: Path, outputs: Path) -> None:
    for run in runs_in(outputs):
        assert facts(run) == facts(RunDirectory(alone / "main" / run.path.name)), logs_of(outputs)


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "cancelled"])
def test_a_disturbed_run_goes_on_by_itself_and_is_the_undisturbed_one(name, cluster, submitted, alone):
    outputs = submitted[name]
    wait_for(finished(outputs), f"{name}: {cluster.call('squeue', '--states=all')}{logs_of(outputs)}", ENOUGH)
    same_as_alone(alone, outputs)
    [run] = runs_in(outputs)
    assert cluster.detail(job_of(run))["Restarts"] != "0", logs_of(outputs)


def test_a_sweep_is_arrays_that_the_cluster_takes_after_first_stages_that_are_trained_once(cluster, submitted, alone):
    outputs = submitted["sweep"]
    wait_for(finished(outputs, 4), f"sweep: {cluster.call('squeue', '--states=all')}{logs_of(outputs)}", ENOUGH)
    same_as_alone(alone, outputs)
    arrays = [file.read_text().splitlines() for file in sorted(outputs.glob("main/.jobs/*/runs.txt"))]
    assert sorted(map(len, arrays)) == [1, 2, 3]
    said = train(cluster, outputs, *SWEEP, "hardware=slurm_cpu")
    assert said.count("finished already") == 4
    assert "Submitted" not in said


def test_a_cancelled_run_stays_so_until_the_command_is_repeated(cluster, submitted, alone):
    outputs = submitted["cancelled"]
    [run] = runs_in(outputs)
    wait_for(lambda: cluster.jobs()[job_of(run)] == "CANCELLED", f"cancelled: {cluster.jobs()}", ENOUGH)
    wait_for(lambda: not processes_of(run.path), "an end of its processes", 20)
    assert run.state == "cancelled", logs_of(outputs)
    assert "Submitted" in train(cluster, outputs, "hardware=slurm_cpu", "wait=true")
    same_as_alone(alone, outputs)


def test_a_job_leaves_a_run_alone_that_somebody_works_on(cluster, alone, tmp_path):
    """The run is begun by hand, on the login node; its job ends as one that had nothing to do."""
    job_has_ended = tmp_path / "ended"
    train(cluster, tmp_path, *until(job_has_ended), "hardware=slurm_cpu", held_on("n1"))
    [run] = runs_in(tmp_path)
    worker = [sys.executable, "-P", "-m", "hldm", "worker", run.path]
    with subprocess.Popen(worker, env={**cluster.environment, **environment()}, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: is_under_way(tmp_path), "a beginning of the run", ENOUGH)
        job = job_of(run)
        cluster.call("scontrol", "release", job)
        wait_for(lambda: cluster.jobs()[job] == "COMPLETED", f"an end of the job: {logs_of(tmp_path)}", ENOUGH)
        assert process.poll() is None, "the run should still have been at work"
        job_has_ended.touch()
        assert process.wait(ENOUGH) == 0
    assert "being worked on" in logs_of(tmp_path)
    same_as_alone(alone, tmp_path)


def test_two_copies_of_a_job_do_not_both_train_its_run(cluster, alone, tmp_path):
    """SLURM does not hear of a node any more, whose jobs run on, and starts them again on another one.

    The second start of a job may take the run from the first, which finds that out before it writes anything.
    """
    second_has_begun = tmp_path / "second"
    train(cluster, tmp_path, *until(second_has_begun), "hardware=slurm_cpu", HELD)
    [run] = runs_in(tmp_path)
    job = job_of(run)
    with only_node("n2", cluster):
        start(job, cluster)
    wait_for(lambda: is_under_way(tmp_path), f"a beginning of the run: {logs_of(tmp_path)}", ENOUGH)
    first = run.status["pid"]
    assert cluster.command("kill", "n2", "--daemon-only").returncode == 0
    wait_for(lambda: run.status["pid"] != first, "a second start", ENOUGH)
    second_has_begun.touch()
    wait_for(lambda: not is_alive(first), f"an end of the first: {logs_of(tmp_path)}", ENOUGH)
    wait_for(finished(tmp_path), f"an end: {cluster.call('squeue')}{logs_of(tmp_path)}", ENOUGH)
    wait_for(lambda: cluster.jobs()[job] == "COMPLETED", f"an end of the job: {logs_of(tmp_path)}", ENOUGH)
    assert cluster.detail(job)["Restarts"] == "1", logs_of(tmp_path)  # the first has not disturbed the second
    assert "is worked on by" in logs_of(tmp_path)
    same_as_alone(alone, tmp_path)
    assert cluster.command(*cluster.up).returncode == 0


def test_nothing_is_trained_where_one_submits(cluster, tmp_path):
    said = train(cluster, tmp_path, "hardware=slurm_cpu", "plan=true")
    assert "nothing was submitted" in said
    assert runs_in(tmp_path) == []
