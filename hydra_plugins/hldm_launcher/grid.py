"""What our launchers have in common: the points of a grid are checked together, and what becomes of each is said."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from hldm.config.compose import Composer
    from hldm.config.schema import RunConfig
    from hldm.errors import UserError
    from hldm.study.plan import Point


class GridLauncher(Launcher):
    """Checks every point of the grid before any of them starts.

    Args:
        plan: say what would be done, and do nothing.
        wait: stay until all runs have ended.
    """

    def __init__(self, plan: bool = False, wait: bool = False) -> None:
        self.plan, self.wait = plan, wait
        self.compares = True  # a search compares in its own way, in the end
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config

    @abstractmethod
    def sweep(self, points: "list[tuple[tuple[str, ...], RunConfig]]") -> "tuple[list[Point], UserError | None]":
        """Do what is missing of the checked points: the plan, and an error that is raised in the end."""

    def composer(self) -> "Composer":
        """Composes the points of a grid as Hydra found their options."""
        from hldm.config.compose import Composer  # late: Hydra imports plugins for `--cfg job` too
        from hldm.study.points import options_of

        assert self.config is not None
        assert self.hydra_context is not None
        config, load = self.config, self.hydra_context.config_loader.load_sweep_config
        return Composer(lambda overrides: load(config, overrides), options_of(config))

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """One JobReturn per point; a run that failed is one that Hydra's sweepers see as failed."""
        # late: Hydra imports plugins for `--cfg job` too
        from hldm.study.grid import checked
        from hldm.study.points import options_of

        assert self.config is not None
        plan, error = self.sweep(checked(job_overrides, self.composer(), options_of(self.config)))
        returns = []
        for overrides, point in zip(job_overrides, plan, strict=True):
            run = point.run.snapshot()
            is_finished = run.state == "finished"
            value: Any = run.metrics if is_finished else error
            # without an error, a run that is not finished is going to be, or was only planned
            status = JobStatus.COMPLETED if is_finished or error is None else JobStatus.FAILED
            returns.append(JobReturn(list(overrides), status=status, _return_value=value))
        return returns
