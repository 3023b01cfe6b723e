"""`hydra/launcher=local`: a grid on this machine, a process per run, one run per GPU or as many as the cores bear."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LocalLauncher(Launcher):
    """Checks every point of the grid before any of them starts."""

    def __init__(self) -> None:
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """One JobReturn per point; a run that failed is one that Hydra's sweepers see as failed."""
        from hldm.study.sweep import checked_grid, sweep  # late: Hydra imports plugins for `--cfg job` too

        assert self.config is not None
        assert self.hydra_context is not None
        load = self.hydra_context.config_loader.load_sweep_config
        composed = [load(self.config, list(overrides)) for overrides in job_overrides]
        plan, error = sweep(checked_grid(job_overrides, composed))
        returns = []
        for overrides, config, point in zip(job_overrides, composed, plan, strict=True):
            is_finished = point.run.state == "finished"
            value: Any = (point.run.results or {}).get("metrics") if is_finished else error
            status = JobStatus.COMPLETED if is_finished else JobStatus.FAILED
            returns.append(JobReturn(list(overrides), cfg=config, status=status, _return_value=value))
        return returns
