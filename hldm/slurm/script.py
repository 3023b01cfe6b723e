"""The batch script of an array, made and submitted by submitit's executor with our command in place of a pickle."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmExecutor

from hldm.config.slurm import Slurm
from hldm.errors import UserError
from hldm.machine import of_threads
from hldm.paths import PACKAGE
from hldm.run import exits
from hldm.run.scratch import VARIABLE

AGAIN, LATER, NOTHING = exits.STOPPED, 74, 10
"""What `python -m hldm.slurm` tells the script by its exit status: start the job again, at once or in `PAUSE` seconds;
there is nothing to do."""

PAUSE = 300
"""Seconds after which a job comes back whose first stage somebody else trains."""

FUNCTIONS = """
# starts the job anew for {again} and {later}, and ends it otherwise; {nothing}: there was nothing to do
finish() {{
  case "$1" in
    {again}) scontrol requeue "$job" && exit 0 ;;
    {later}) scontrol requeue "$job" && scontrol update "JobId=$job" StartTime=now+{pause} && exit 0 ;;
    {nothing}) exit 0 ;;
  esac
  exit "$1"
}}
# this shell outlives its run, whatever asks that to stop
trap : TERM USR2 INT HUP
""".strip()

RANKS = (
    "export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS "
    "LOCAL_WORLD_SIZE=$((SLURM_NTASKS / SLURM_JOB_NUM_NODES)) "
    'MASTER_ADDR="${MASTER_ADDR:-$SLURM_LAUNCH_NODE_IPADDR}"; exec "$@"'
)
"""Variables of torchrun from those of SLURM, before what is run."""


class Executor(SlurmExecutor):
    """submitit's executor for SLURM, whose jobs run directories.

    Args:
        folder: of the array.
        slurm: what each job gets.
        threads: of each process.
        part: "run", or "first_stage" for directories of first stages.
    """

    def __init__(self, folder: Path, slurm: Slurm, *, threads: int, part: str) -> None:
        super().__init__(folder)
        self.own_folder, self.slurm, self.threads, self.part = folder, slurm, threads, part

    @classmethod
    def affinity(cls) -> int:
        """A plan is made anywhere; whether there is srun is looked at before anything is submitted."""
        return 2

    def prepare(self, *, name: str, tasks: int, minutes: int, parallel: int, after: Sequence[str]) -> None:
        """Say what the jobs ask for.

        Args:
            tasks: of the array; 1 makes a job of its own.
            minutes: that each may take.
            parallel: how many run at a time.
            after: jobs that have to end before these begin.
        """
        slurm = self.slurm
        asked: dict[str, Any] = {
            "name": name,
            "timeout_min": minutes,
            "nodes": slurm.nodes,
            "tasks_per_node": slurm.tasks_per_node,
            "cpus_per_task": slurm.cpus_per_task,
            "gpus_per_node": slurm.gpus_per_node or None,
            "mem_gb": slurm.mem_gb,
        }
        parameters = {key: value for key, value in asked.items() if value is not None}
        words = ("partition", "account", "qos", "constraint", "exclude", "comment", "gres")
        self.update_parameters(
            **self._convert_parameters(parameters),
            **{word: value for word in words if (value := getattr(slurm, word)) is not None},
            wckey=None,
            dependency="afterany:" + ":".join(after) if after else None,
            # USR2 to the processes of a step, which are the worker's; with B: it would go to this script's shell alone
            signal_delay_s=slurm.signal_delay_s,
            array_parallelism=parallel,
            stderr_to_stdout=True,
            # since SLURM 22.05 a step does not ask for the cores of its job by itself
            srun_args=[f"--cpus-per-task={slurm.cpus_per_task}", *slurm.srun_args],
            additional_parameters={"requeue": True, **slurm.additional_parameters},
            setup=self._before(is_array=tasks > 1),
            teardown=self._after(),
        )
        if tasks > 1:
            self.parameters["map_count"] = tasks

    def text(self) -> str:
        """The batch script."""
        return str(self._make_submission_file_text(self.command, ""))

    def submit_array(self) -> str:
        """Submit what was prepared, and return the id of the job or array.

        Raises:
            UserError: sbatch refuses it.
        """
        try:
            job = self._submit_command(self.command)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            said = [line for line in str(error).splitlines() if "sbatch" in line] or str(error).splitlines()[-1:]
            raise UserError(
                f"sbatch refuses the job: {' '.join(said)[:400]} What it was asked for stands in hardware.slurm.… and "
                "in the site's profile; plan=true shows the script."
            ) from error
        for link in self.own_folder.glob(".submission_file_*.sh"):
            link.unlink()
        return str(job.job_id)

    @property
    def command(self) -> str:
        """What srun starts: the worker, with the variables of its rank where there are several."""
        worker = f'{self._python} -P -m hldm worker "$HLDM_RUN"'
        if self.part != "run":
            worker += f" part={self.part}"
        return f"bash -c {shlex.quote(RANKS)} rank {worker}" if self.slurm.processes > 1 else worker

    @property
    def _python(self) -> str:
        python = shlex.quote(self.slurm.python or sys.executable)
        return f"{self.slurm.container} {python}" if self.slurm.container else python

    def _before(self, *, is_array: bool) -> list[str]:
        """Lines of the script before the run."""
        slurm = self.slurm
        lines = [f"umask {slurm.umask}"] if slurm.umask else []
        if slurm.modules:
            # a batch shell is no login shell
            lines += [
                'for file in /etc/profile.d/{modules,lmod,z00_lmod}.sh; do type module &>/dev/null || [ ! -r "$file" ] '
                '|| . "$file"; done',
                f"module load {shlex.join(slurm.modules)}",
            ]
        if slurm.conda:
            lines += ['eval "$(conda shell.bash hook)"', f"conda activate {shlex.quote(slurm.conda)}"]
        lines += slurm.setup
        if slurm.scratch:
            lines += [
                f'export {VARIABLE}="{slurm.scratch}" TMPDIR="{slurm.scratch}/hldm-$USER-$SLURM_JOB_ID"',
                'mkdir -p "$TMPDIR"',
            ]
        lines += [
            f'export PYTHONPATH={shlex.quote(str(PACKAGE.parent))}"${{PYTHONPATH:+:$PYTHONPATH}}"',
            "export " + " ".join(f"{name}={value}" for name, value in of_threads(self.threads).items()),
        ]
        if slurm.processes > 1:
            lines += [
                'MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"',
                'getent hosts "$MASTER_ADDR" >/dev/null || MASTER_ADDR=""',
                "export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))",
            ]
        if is_array:
            lines += ['job="${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"', "line=$((SLURM_ARRAY_TASK_ID + 1))"]
        else:
            lines += ["unset SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID", 'job="$SLURM_JOB_ID"', "line=1"]
        lines += [
            f'HLDM_RUN="$(sed -n "${{line}}p" {shlex.quote(str(self.own_folder / "runs.txt"))})"',
            "export HLDM_RUN",
            *FUNCTIONS.format(again=AGAIN, later=LATER, nothing=NOTHING, pause=PAUSE).splitlines(),
            f"{self._beside} begin {self._arguments} || finish $?",
        ]
        return lines

    def _after(self) -> list[str]:
        """Lines of the script after the run."""
        return [
            "status=$?",
            """facts="$(scontrol show job "$job" | grep -oE '(JobState|Reason|Restarts)=[^ ]+' | tr '\\n' ' ')\"""",
            *([] if not self.slurm.scratch else ['rm -rf "$TMPDIR"']),
            f'{self._beside} end {self._arguments} "$status" "$facts"',
            "finish $?",
        ]

    @property
    def _beside(self) -> str:
        """What looks at the run before and after it, where the run works too: on the node, or in its container."""
        step = ["srun", "--ntasks=1", "--nodes=1", *self.slurm.srun_args] if self.slurm.srun_args else []
        return f"{shlex.join(step)} {self._python} -P -m hldm.slurm".strip()

    @property
    def _arguments(self) -> str:
        return f'"$HLDM_RUN" {shlex.quote(str(self.own_folder))} {self.part}'
