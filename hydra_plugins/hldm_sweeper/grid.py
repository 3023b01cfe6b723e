"""`hydra/sweeper=grid`: every combination of the values that were typed, without composing any of them, or a search.

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

    With search=…, what is given as intervals is searched. Both are one sweeper, so that a preset which names another
    one of Hydra's changes nothing.

    Args:
        params: setting → values, of a named sweep. What is typed counts instead.
    """

    def __init__(self, params: DictConfig | None = None) -> None:
        self.params = params
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hldm.config.overrides import refuse_launcher  # late: Hydra imports plugins for `--cfg job` too

        refuse_launcher(config.hydra.runtime.choices["hydra/launcher"])
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Launch all points at once: what the launcher gives for them. A search launches them batch by batch."""
        # late: Hydra imports plugins for `--cfg job` too
        from hldm.study.points import combinations, options_of

        assert self.launcher is not None
        assert self.config is not None
        if self.config.get("search") is not None:
            return self._search(arguments)
        points = combinations(self.params, arguments, options_of(self.config))
        results = self.launcher.launch(points, initial_job_idx=0)
        for result in results:
            _ = result.return_value  # raises what made the point fail
        return results

    def _search(self, arguments: list[str]) -> Any:
        """Search the intervals, with runs that the launcher starts; it stays until they have ended."""
        from hldm.study.points import options_of, texts_of  # late, as above
        from hldm.study.search import search

        assert self.config is not None
        options = options_of(self.config)
        launcher: Any = self.launcher  # one of hydra_plugins/hldm_launcher, as others have been refused
        launcher.wait, launcher.compares = True, False
        texts = texts_of(self.params, arguments, options)
        search(texts, launcher.composer(), options, launcher.sweep, plan_only=launcher.plan)
        return []
