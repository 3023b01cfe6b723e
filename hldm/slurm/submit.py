"""Check, plan, submit, return: what is missing of a grid becomes jobs, and nothing becomes a job twice."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from hldm.slurm.arrays import Array, Work, arrange, hours, in_words, missing_first_stages, shared
from hldm.slurm.cluster import Cluster
from hldm.slurm.watch import watch
from hldm.study.compare import print_comparison
from hldm.study.counted import print_counted
from hldm.study.execute import mend, of_the_run, threads_of, typed_command, write_directory
from hldm.study.grid import warn_of_tracker, what_is_missing
from hldm.study.memory import refuse_more_than
from hldm.study.plan import Estimate, Point, make_plan, print_points

if TYPE_CHECKING:
    from hldm.slurm.script import Executor

FOLDER = ".jobs"
"""In the folder of a study: a folder for each array, numbered."""


def submit(
    points: list[tuple[tuple[str, ...], RunConfig]],
    *,
    plan_only: bool = False,
    wait: bool = False,
    compares: bool = True,
) -> tuple[list[Point], UserError | None]:
    """Submit what is missing of a checked grid, and return; or stay until all of it has ended, and compare.

    Args:
        points: what names each point, and its configuration.
        plan_only: say what would be submitted, and submit nothing.
        wait: stay.
        compares: compare all of it where nothing is missing, which a search does not do with each of its parts.

    Returns:
        The plan, and an error to raise in the end where a run failed while this process stayed.

    Raises:
        UserError: something about the jobs cannot be right, or sbatch refuses them.
    """
    console = terminal()
    plan = make_plan(points)
    slurm = slurm_of(plan)
    refuse_patterns(plan[0].config)
    for point in plan:
        if point.is_to_run:
            refuse_more_than(None, point.config)
    cluster = Cluster.look(slurm)
    estimate = Estimate.from_finished_runs(Path(plan[0].config.paths.outputs))
    print_points(plan, estimate, console)
    stages = missing_first_stages(plan)
    at_work = first_stage_jobs(stages)
    after = sorted(set(at_work.values()))
    arrays = arrange(plan, stages, at_work, estimate, cluster)
    announce(plan, stages, arrays, estimate, console)
    print_counted(plan, console)
    if plan_only:
        show_scripts(plan, arrays, after, console)
        return plan, None
    mend(plan)
    if arrays:
        cluster.refuse_elsewhere(slurm.option)
        to_run = [point for point in plan if point.is_to_run]
        warn_of_tracker(to_run, console)
        for line in submit_arrays(plan, stages, arrays, after):
            console.print(line, soft_wrap=True)
    pending = [point.run for point in plan if point.original is None and point.state != "finished"]
    if not pending:
        if compares:
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
    if compares:
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


def first_stage_jobs(stages: Mapping[Path, Path | None]) -> dict[Path, str]:
    """First stages that are not there yet → the job that trains them, or waits to; asked once for all."""
    folders = {folder for folder in stages.values() if folder is not None}
    known = {folder: job for folder in folders if (job := jobs.job_of(RunDirectory(folder).look().status))}
    states = jobs.states(set(known.values()))
    return {folder: job for folder, job in known.items() if states[job] in jobs.ALIVE}


def announce(
    plan: Sequence[Point],
    stages: Mapping[Path, Path | None],
    arrays: Sequence[Array],
    estimate: Estimate,
    console: Console,
) -> None:
    """What the arrays are, and how long all of it takes."""
    slurm = slurm_of(plan)
    if several := shared(stages):
        runs, count = sum(several.values()), len(several)
        console.print(f"{runs} runs share {count} first stage{'s' if count > 1 else ''} to be trained.")
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


def prepared(array: Array, folder: Path, after: Sequence[str]) -> "Executor":
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


def submit_arrays(
    plan: Sequence[Point], stages: Mapping[Path, Path | None], arrays: Sequence[Array], after: Sequence[str]
) -> Iterator[str]:
    """Submit the arrays one after the other, with a line on each."""
    by_path = {point.run.path: point for point in plan if point.original is None}
    first_stages = [*after]
    slurm = slurm_of(plan)
    with _as_the_site_wants(slurm), _not_within_a_job():
        forget_failures({folder for folder in stages.values() if folder is not None})
        for array in arrays:
            job, folder = submit_array(array, by_path, first_stages if array.waits else [])
            if array.part == "first_stage":
                first_stages.append(job)
            yield f"Submitted {job}: {in_words(array)}. Script, runs.txt and logs: {folder}"


def forget_failures(stages: Iterable[Path]) -> None:
    """First stages that failed are tried again, by a job of their own or by the run that needs them."""
    for stage in map(RunDirectory, stages):
        stage.set_aside_damaged()
        if stage.status["state"] == "failed":
            stage.update_status(state="new", error=None)


def submit_array(array: Array, by_path: Mapping[Path, Point], after: Sequence[str]) -> tuple[str, Path]:
    """Submit one array: its id, and the folder that holds its script, runs.txt and logs.

    Before that its runs say that they are submitted, and after it by which job; a job that has begun meanwhile has
    written that itself.

    Raises:
        UserError: sbatch refuses it; its runs are then as they were.
    """
    folder = new_folder(array.works[0].config.study_folder / FOLDER)
    executor = prepared(array, folder, after)
    write_text_atomically(folder / "runs.txt", "".join(f"{work.directory}\n" for work in array.works))
    about = {"submitted": now(), "command": typed_command(), "part": array.part, "source": source_digest()}
    write_json(folder / "job.json", about)
    before = [RunDirectory(work.directory).status for work in array.works]
    own = {"scheduler": "slurm", "id": None, "name": job_name(array)}
    runs = [written(array, work, by_path, own) for work in array.works]
    try:
        job = executor.submit_array()
    except UserError:
        for run, status in zip(runs, before, strict=True):
            write_json(run.path / "status.json", status)
        raise
    write_json(folder / "job.json", {**about, "job": job})
    for number, run in enumerate(runs):
        status = run.status
        if status["state"] == "submitted" and not jobs.job_of(status):
            run.update_status(job={**own, "id": f"{job}_{number}" if len(runs) > 1 else job})
    return job, folder


def written(array: Array, work: Work, by_path: Mapping[Path, Point], job: Mapping[str, Any]) -> RunDirectory:
    """The directory of a work, with its configuration, and submitted by what its status says."""
    most = threads_at_most(work.config)
    status: dict[str, Any] = {"state": "submitted", "job": job, "error": None}
    if array.part == "run":
        point = by_path[work.directory]
        return write_directory(point, min(most, threads_of(point, most)), **status)
    stage = RunDirectory.create(work.directory, of_the_run(work.config, most))
    stage.update_status(**status)
    return stage


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
