"""`hydra/launcher=slurm`: a grid, or one run, as jobs of SLURM; the command submits them and returns."""

from typing import TYPE_CHECKING

from hydra_plugins.hldm_launcher.grid import GridLauncher

if TYPE_CHECKING:
    from hldm.config.schema import RunConfig
    from hldm.errors import UserError
    from hldm.study.plan import Point


class SlurmLauncher(GridLauncher):
    """Checks every point of the grid before any of them is submitted.

    Args:
        plan: print what would be submitted, and submit nothing.
        wait: stay until the jobs have ended.
    """

    def sweep(self, points: "list[tuple[tuple[str, ...], RunConfig]]") -> "tuple[list[Point], UserError | None]":
        from hldm.slurm.submit import submit  # late: Hydra imports plugins for `--cfg job` too

        return submit(points, plan_only=self.plan, wait=self.wait, compares=self.compares)
