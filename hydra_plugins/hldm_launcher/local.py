"""`hydra/launcher=local`: a grid on this machine, a process per run, one run per GPU or as many as the cores bear."""

from typing import TYPE_CHECKING

from hydra_plugins.hldm_launcher.grid import GridLauncher

if TYPE_CHECKING:
    from hldm.config.schema import RunConfig
    from hldm.errors import UserError
    from hldm.study.plan import Point


class LocalLauncher(GridLauncher):
    """Works until every run has ended; there is nothing to return to before."""

    def sweep(self, points: "list[tuple[tuple[str, ...], RunConfig]]") -> "tuple[list[Point], UserError | None]":
        # late: Hydra imports plugins for `--cfg job` too
        from hldm.errors import UserError
        from hldm.study.grid import sweep

        if not self.wait:
            raise UserError(
                "wait=false returns before the runs have ended, which is for jobs of SLURM: hardware=slurm_gpu or "
                "slurm_cpu. On this machine a command stays with its runs: leave wait=false away."
            )
        return sweep(points, plan_only=self.plan, compares=self.compares)
