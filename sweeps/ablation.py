"""Hyperbolic switches one at a time: runs what is missing, then fills the table of docs/results/ablation.md.

    python sweeps/ablation.py [setting=value …]    settings of train.py, such as hardware=cpu or tracking=none
    python sweeps/ablation.py --tables             only the page, from the runs that there are

The runs of `python train.py sweep=ablation`: 33 of three to five minutes on two quiet processor cores. It can be
stopped at any time and goes on from there.
"""

import sys

from results_page import ResultsPage, Table, less_first, mean, spread, start

from hldm.config.options import Options, description
from hldm.study.cells import Cell

CELLS = Options().groups["ablation"]
delta, gaussian = mean("delta_rel", 3), mean("delta_rel_gaussian", 3)


def what(cell: Cell) -> str:
    """The sentence of the option that makes the cell."""
    return description(CELLS[cell.settings["ablation"]]).rstrip(".")


PAGE = ResultsPage(
    "ablation",
    {
        "ablation": Table(
            ["sweep=ablation"],
            {
                "cell": lambda cell: cell.settings["ablation"],
                "what it is": what,
                "FID": spread("fid", 3),
                "less the baseline's": less_first("fid", 3),
                "FID of reconstructions": mean("reconstruction_fid", 3),
                "label accuracy, %": spread("label_accuracy", 1, scale=100),
                "√c·rms as drawn": mean("sqrt_c_rms_drawn"),
                "δ_rel (Gaussian)": lambda cell: f"{delta(cell)} ({gaussian(cell)})",
            },
        )
    },
)

if __name__ == "__main__":
    sys.exit(start(PAGE))
