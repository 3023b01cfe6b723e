"""Whether a scheduler runs this process."""

import os

JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID")
"""Variables by which SLURM, PBS, LSF and Flux say that a process is part of a job."""


def is_scheduled() -> bool:
    """Whether this process is part of a scheduler's job."""
    return any(os.environ.get(name) for name in JOBS)
