"""Check, plan, submit, return: what is missing of a grid becomes jobs, and nothing becomes a job twice."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from hldm.config.schema import RunConfig
from hldm.config.slurm import Slurm
from hldm.console import terminal
from hldm.errors import UserError
from hldm.files import write_text_atomically
from hldm.machine import MOST_THREADS
from hldm.run import jobs
from hldm.run.directory import RunDirectory, now, write_json
from hldm.run.provenance import source_digest
from hldm.slurm.arrays import Array, arrange, hours, in_words, missing_first_stage, shared_first_stages
from hldm.slurm.cluster import Cluster
from hldm.slurm.watch import watch
from hldm.study.compare import print_comparison
from hldm.study.execute import mend, of_the_run, threads_of, typed_command, write_directory
from hldm.study.grid import warn_of_tracker, what_is_missing
from hldm.study.plan import Estimate, Point, make_plan, print_points

FOLDER = ".jobs"
"""In the folder of a study: a folder for each array, numbered."""


def submit(
    points: list[tuple[tuple[str, ...], RunConfig]], *, plan_only: bool = False, wait: bool = False
) -> tuple[list[Point], UserError | None]:
    """Submit what is missing of a checked grid, and return; or stay until all of it has ended, and compare.

    Args:
        points: what names each point, and its configuration.
        plan_only: say what would be submitted, and submit nothing.
        wait: stay.

    Returns:
        The plan, and an error to raise in the end where a run failed while this process stayed.

    Raises:
        UserError: something about the jobs cannot be right, or sbatch refuses them.
    """
    console = terminal()
    plan = make_plan(points)
    slurm = slurm_of(plan)
    refuse_patterns(plan[0].config)
    cluster = Cluster.look(slurm)
    estimate = Estimate.from_finished_runs(Path(plan[0].config.paths.outputs))
    print_points(plan, estimate, console)
    stages = first_stage_jobs(plan)
    arrays = arrange(plan, stages, estimate, cluster)
    announce(plan, arrays, estimate, console)
    if plan_only:
        show_scripts(plan, arrays, sorted(set(stages.values())), console)
        return plan, None
    mend(plan)
    if arrays:
        cluster.refuse_elsewhere(slurm.option)
        to_run = [point for point in plan if point.is_to_run]
        warn_of_tracker(to_run, console)
        for line in submit_arrays(plan, arrays, sorted(set(stages.values()))):
            console.print(line, soft_wrap=True)
    pending = [point.run for point in plan if point.original is None and point.state != "finished"]
    if not pending:
        print_comparison(plan, console)
        return plan, None
    if not wait:
        console.print(
            "The jobs go on by themselves. The same command submits what is missing then, and compares when nothing "
            f"is; `hldm runs {plan[0].config.study_folder}` shows how far they are.",
            soft_wrap=True,
        )
        return plan, None
    watch(pending, console)
    print_comparison(plan, console)
    return plan, what_is_missing(plan)


def refuse_patterns(config: RunConfig) -> None:
    """Raise where SLURM would read a part of a folder's name as a pattern of its own."""
    if "%" in str(config.study_folder):
        raise UserError(
            f"paths.outputs={config.paths.outputs} has a % in it, which SLURM replaces in names of files. Name another "
            "folder, as in paths.outputs=outputs."
        )


def slurm_of(plan: Sequence[Point]) -> Slurm:
    """What the jobs of a plan ask for."""
    slurm = plan[0].config.hardware.slurm
    assert slurm is not None, "hydra/launcher=slurm comes with an option of hardware"
    return slurm


def first_stage_jobs(plan: Iterable[Point]) -> dict[Path, str]:
    """First stages that are not there yet → the job that trains them, or waits to; asked once for all."""
    folders = {folder for point in plan if point.is_to_run and (folder := missing_first_stage(point.config))}
    known = {folder: job for folder in folders if (job := jobs.job_of(RunDirectory(folder).status))}
    states = jobs.states(set(known.values()))
    return {folder: job for folder, job in known.items() if states[job] in jobs.ALIVE}


def announce(plan: Sequence[Point], arrays: Sequence[Array], estimate: Estimate, console: Console) -> None:
    """What the arrays are, and how long all of it takes."""
    slurm = slurm_of(plan)
    shared = shared_first_stages(plan)
    if shared:
        runs = sum(map(len, shared.values()))
        console.print(f"{runs} runs share {len(shared)} first stage{'s' if len(shared) > 1 else ''} to be trained.")
    for array in arrays:
        console.print(f"{in_words(array)}, {resources(slurm)}.", soft_wrap=True)
    if arrays:
        basis = estimate.basis([point.config for point in plan if point.is_to_run])
        console.print(f"About {hours(arrays):.1f} hours of jobs in all, {basis}.", soft_wrap=True)


def resources(slurm: Slurm) -> str:
    """What each job gets, in words."""
    words = [f"{slurm.nodes} nodes" if slurm.nodes > 1 else ""]
    if slurm.processes > 1:
        words.append(f"{slurm.processes} processes")
    if slurm.gres or slurm.gpus_per_node:
        words.append(slurm.gres or f"{slurm.gpus_per_node} GPU{'s' if (slurm.gpus_per_node or 0) > 1 else ''}")
    words.append(f"{slurm.cpus_per_task} core{'s' if slurm.cpus_per_task > 1 else ''}")
    words.append(f"{slurm.mem_gb:g} GB" if slurm.mem_gb else "")
    words.append(f"partition {slurm.partition}" if slurm.partition else "")
    return ", ".join(word for word in words if word)


def threads_at_most(config: RunConfig) -> int:
    """Threads of a process of a run, where it was not begun with fewer."""
    hardware = config.hardware
    assert hardware.slurm is not None
    return min(MOST_THREADS, hardware.slurm.cpus_per_task) if hardware.threads == "auto" else hardware.threads


def show_scripts(plan: Sequence[Point], arrays: Sequence[Array], after: Sequence[str], console: Console) -> None:
    """The scripts as they would be submitted, with <n> for what has no number yet."""
    folder = plan[0].config.study_folder / FOLDER
    for array in arrays:
        waited = (["<first stages>"] if any(a.part == "first_stage" for a in arrays) else []) + [*after]
        script = prepared(array, folder / "<n>", waited if array.waits else [])
        console.print(f"\n# {in_words(array)}", soft_wrap=True)
        console.print(script.text(), soft_wrap=True)
    console.print("plan=true: nothing was submitted.")


def prepared(array: Array, folder: Path, after: Sequence[str]):  # type: ignore[no-untyped-def]  # submitit comes late
    """submitit's executor for an array."""
    from hldm.slurm.script import Executor  # late: `--cfg job` and the like need no submitit

    config = array.works[0].config
    slurm = config.hardware.slurm
    assert slurm is not None
    executor = Executor(folder, slurm, threads=threads_at_most(config), part=array.part)
    executor.prepare(
        name=job_name(array),
        tasks=len(array.works),
        minutes=array.minutes,
        parallel=array.parallel,
        after=after,
    )
    return executor


def job_name(array: Array) -> str:
    """Name of the jobs, by which people know them in squeue."""
    return f"hldm-{array.works[0].config.study}" + ("-first-stages" if array.part == "first_stage" else "")


def submit_arrays(plan: Sequence[Point], arrays: Sequence[Array], after: Sequence[str]) -> Iterator[str]:
    """Submit the arrays one after the other, with a line on each."""
    by_path = {point.run.path: point for point in plan if point.original is None}
    first_stages = [*after]
    slurm = slurm_of(plan)
    with _as_the_site_wants(slurm), _not_within_a_job():
        for array in arrays:
            job, folder = submit_array(array, by_path, first_stages if array.waits else [])
            if array.part == "first_stage":
                first_stages.append(job)
            yield f"Submitted {job}: {in_words(array)}. Script, runs.txt and logs: {folder}"


def submit_array(array: Array, by_path: dict[Path, Point], after: Sequence[str]) -> tuple[str, Path]:
    """Submit one array: its id, and the folder that holds its script, runs.txt and logs.

    Before that its runs say that they are submitted, and with it they say by which job: a job that has already begun
    has written that itself.

    Raises:
        UserError: sbatch refuses it; its runs are then as they were.
    """
    folder = new_folder(array.works[0].config.study_folder / FOLDER)
    executor = prepared(array, folder, after)
    write_text_atomically(folder / "runs.txt", "".join(f"{work.directory}\n" for work in array.works))
    about = {"submitted": now(), "command": typed_command(), "part": array.part, "source": source_digest()}
    write_json(folder / "job.json", about)
    before = []
    for work in array.works:
        run = directory(array, work.directory, by_path)
        before.append((run, run.status))
        run.update_status(
            state="submitted", job={"scheduler": "slurm", "id": None, "name": job_name(array)}, error=None
        )
    try:
        job = executor.submit_array()
    except UserError:
        for run, status in before:
            write_json(run.path / "status.json", status)
        raise
    write_json(folder / "job.json", {**about, "job": job})
    for number, (run, _) in enumerate(before):
        task = f"{job}_{number}" if len(array.works) > 1 else job
        status = run.status
        if status["state"] == "submitted" and not jobs.job_of(status):
            run.update_status(job={"scheduler": "slurm", "id": task, "name": job_name(array)})
    return job, folder


def directory(array: Array, path: Path, by_path: dict[Path, Point]) -> RunDirectory:
    """The run directory of a work, with its configuration."""
    if array.part == "run":
        point = by_path[path]
        if (stage := missing_first_stage(point.config)) and (shared := RunDirectory(stage)).status["state"] == "failed":
            shared.update_status(state="new", error=None)  # tried again, by this run where by no other
        most = threads_at_most(point.config)
        return write_directory(point, min(most, threads_of(point, most)))
    config = next(work.config for work in array.works if work.directory == path)
    return RunDirectory.create(path, of_the_run(config, threads_at_most(config)))


def new_folder(parent: Path) -> Path:
    """A new folder in `parent`, with the next number for its name; no two processes get the same one."""
    parent.mkdir(parents=True, exist_ok=True)
    number = max((int(path.name) for path in parent.iterdir() if path.name.isdigit()), default=0)
    while True:
        number += 1
        try:
            (parent / str(number)).mkdir()
            return parent / str(number)
        except FileExistsError:
            continue


@contextmanager
def _as_the_site_wants(slurm: Slurm) -> Iterator[None]:
    """Files that are made here have the permissions that a site gives to those of its jobs."""
    if slurm.umask is None:
        yield
        return
    before = os.umask(int(slurm.umask, 8))
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _not_within_a_job() -> Iterator[None]:
    """Without the variables of the job that this process may be part of: sbatch hands them on to new ones."""
    if not os.environ.get("SLURM_JOB_ID"):
        yield
        return
    kept = ("SLURM_CONF", "SLURM_CLUSTERS")
    own = {name: value for name, value in os.environ.items() if name.startswith("SLURM_") and name not in kept}
    for name in own:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(own)
