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
        # late: Hydra imports plugins for `--cfg job` too
        from hldm.config.compose import Composer
        from hldm.study.grid import checked, sweep
        from hldm.study.points import options_of

        assert self.config is not None
        assert self.hydra_context is not None
        config, load = self.config, self.hydra_context.config_loader.load_sweep_config
        options = options_of(config)
        compose = Composer(lambda overrides: load(config, overrides), options)
        plan, error = sweep(checked(job_overrides, compose, options))
        returns = []
        for overrides, point in zip(job_overrides, plan, strict=True):
            run = point.run.snapshot()
            is_finished = run.state == "finished"
            value: Any = run.metrics if is_finished else error
            status = JobStatus.COMPLETED if is_finished else JobStatus.FAILED
            returns.append(JobReturn(list(overrides), status=status, _return_value=value))
        return returns
