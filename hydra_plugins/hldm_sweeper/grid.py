"""`hydra/sweeper=grid`: every combination of the values that were typed, without composing any of them.

Hydra's own sweeper composes every point only to look whether it can, and our launcher composes them anyway.
"""

import itertools
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
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Launch all points at once: what the launcher gives for them."""
        from hldm.config import arguments as typed  # late: Hydra imports plugins for `--cfg job` too
        from hldm.config.options import Options

        assert self.launcher is not None
        own = typed.read(["=".join(map(str, item)) for item in (self.params or {}).items()], Options())
        given = {typed.parsed(argument).key_or_group for argument in arguments}
        texts = [argument.hydra for argument in own if typed.parsed(argument.hydra).key_or_group not in given]
        overrides = [typed.parsed(text) for text in [*texts, *arguments]]
        axes: list[list[str]] = [
            [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
            if override.is_sweep_override()
            else [str(override.input_line)]
            for override in overrides
        ]
        results = self.launcher.launch([list(point) for point in itertools.product(*axes)], initial_job_idx=0)
        for result in results:
            _ = result.return_value  # raises what made the point fail
        return results
