"""`hydra/sweeper=grid`: every combination of the values that were typed, without composing any of them.

Hydra's own sweeper composes every point only to look whether it can, and our launcher composes them anyway.
"""

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(Sweeper):
    """The product of all values, in the order in which they were typed; the last setting changes fastest.

    Args:
        params: setting → values, of a named sweep. What is typed counts instead.
    """

    def __init__(self, params: DictConfig | None = None) -> None:
        self.params = params
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hldm.config.arguments import refuse_launcher  # late: Hydra imports plugins for `--cfg job` too

        refuse_launcher(config.hydra.runtime.choices["hydra/launcher"])
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Launch all points at once: what the launcher gives for them."""
        # late: Hydra imports plugins for `--cfg job` too
        from hldm.study.points import combinations, options_of

        assert self.launcher is not None
        assert self.config is not None
        points = combinations(self.params, arguments, options_of(self.config))
        results = self.launcher.launch(points, initial_job_idx=0)
        for result in results:
            _ = result.return_value  # raises what made the point fail
        return results
