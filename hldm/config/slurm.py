"""Jobs of SLURM: the settings of hydra-submitit-launcher under their names, and what a site needs around a job."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge
from pydantic import AfterValidator, BeforeValidator, Field

from hldm.config.base import Auto, Count, NotNegativeWhole, Positive, Section, Whole, Word, Words

SECRET = re.compile(r"(\w*(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD)\w*)\s*=\s*(?=[^\s$`])(?![\"'][$`])", re.IGNORECASE)
"""An assignment of what looks like a secret; what is read from elsewhere, as in KEY=$(cat file), is none."""

LEAST_SIGNAL = 10
"""Seconds that a step and a checkpoint need at the very least."""


def _open(value: Any) -> Any:
    """The value, which is written into files that others can read."""
    for text in value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,):
        if found := SECRET.search(str(text)):
            raise ValueError(
                f"{found[1]} would be written into the job's script; let a line read it: {found[1]}=$(cat FILE)"
            )
    return value


def _lines(value: Any) -> Any:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise ValueError
    return tuple(items)


def _parameters(value: Any) -> Any:
    if not isinstance(value, Mapping) or not all(isinstance(item, str | int | float) for item in value.values()):
        raise ValueError
    return {str(name): item for name, item in value.items()}


def _octal(value: Any) -> Any:
    text = f"{value:o}" if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError
    return text.zfill(4)


Open = Annotated[Word, AfterValidator(_open)]
Lines = Annotated[tuple[str, ...], BeforeValidator(_lines), AfterValidator(_open)]
"""Lines of bash, or words."""


class Slurm(Section):
    """A job of SLURM. What a site sets for all of its users stands in its profile, see slurm/README.md."""

    option: Literal["slurm_cpu", "slurm_gpu", "slurm_ddp"] = Field(
        default="slurm_cpu", description="part of the site's profile that counts before what it says for all jobs"
    )
    partition: Open | None = Field(default=None, description="partition; null: the cluster's own", examples=["gpu"])
    account: Open | None = Field(default=None, description="account; null: the user's own", examples=["lab"])
    qos: Open | None = Field(default=None, description="quality of service; null: the account's", examples=["normal"])
    constraint: Open | None = Field(
        default=None, description="features that a node must have; null for none", examples=["a100"]
    )
    exclude: Open | None = Field(default=None, description="nodes to leave out; null for none", examples=["node[1-3]"])
    comment: Open | None = Field(default=None, description="remark of a job; null for none", examples=["thesis"])
    gres: Open | None = Field(
        default=None, description="generic resources of a node; null for none", examples=["gpu:a100:1"]
    )
    timeout_min: Auto = Field(
        default="auto", description="minutes a job may take; auto: as the estimate says, with a margin", examples=[240]
    )
    nodes: Count = Field(default=1, description="nodes of a run", examples=[1])
    tasks_per_node: Count = Field(default=1, description="processes of a run on each node", examples=[1])
    gpus_per_node: NotNegativeWhole | None = Field(
        default=None, description="GPUs on each node; null for none", examples=[1]
    )
    cpus_per_task: Count = Field(default=1, description="processor cores of each process", examples=[4])
    mem_gb: Positive | None = Field(
        default=None, description="memory on each node in GB; null: what the partition gives", examples=[16]
    )
    array_parallelism: Count = Field(default=256, description="jobs that run at a time", examples=[32])
    signal_delay_s: Annotated[Whole, Ge(LEAST_SIGNAL)] = Field(
        default=120, description="seconds before the end of its time at which a job is told to save", examples=[120]
    )
    additional_parameters: Annotated[
        dict[str, Any],
        BeforeValidator(_parameters),
        AfterValidator(_open),
        Words("a mapping of sbatch's options, {mail-type: END}"),
    ] = Field(default={}, description="other options of sbatch", examples=["'{mail-type: END}'"])
    srun_args: Annotated[Lines, Words("a list of words")] = Field(
        default=(), description="options of srun, such as a container of pyxis", examples=["[--mpi=none]"]
    )
    setup: Annotated[Lines, Words("a list of lines of bash")] = Field(
        default=(), description="lines of bash before the run", examples=["[ulimit -n 4096]"]
    )
    modules: Annotated[Lines, Words("a list of modules")] = Field(
        default=(), description="modules to load", examples=["[cuda/12.4]"]
    )
    conda: Open | None = Field(default=None, description="environment to activate; null for none", examples=["hldm"])
    container: Open | None = Field(
        default=None, description="words before the run's command; null for none", examples=["apptainer exec hldm.sif"]
    )
    python: Open | None = Field(
        default=None, description="interpreter of the jobs; null: the one that submits", examples=["python3"]
    )
    scratch: Open | None = Field(
        default=None,
        description="node-local folder for temporary files and copies of data; null for none",
        examples=["/scratch"],
    )
    umask: Annotated[
        str | None, BeforeValidator(lambda v: None if v is None else _octal(v)), Words("as 0002, or null")
    ] = Field(default=None, description="permissions that new files lack; null: the user's own", examples=["0002"])

    @property
    def processes(self) -> int:
        """How many of them work on a run."""
        return self.nodes * self.tasks_per_node
