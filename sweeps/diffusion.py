"""Quality of the whole model: runs what is missing, then fills the tables and the picture of docs/results/diffusion.md.

    python sweeps/diffusion.py [setting=value …]    settings of train.py, such as hardware=cpu or tracking=none
    python sweeps/diffusion.py --tables             only the page, from the runs that there are

36 runs of three to five minutes on two quiet processor cores; it can be stopped at any time and goes on from there.
"""

import sys
from statistics import fmean

from results_page import ROOT, Column, Plans, ResultsPage, Table, less_first, mean, spread, start

from hldm.study.cells import Cell
from hldm.study.pictures import comparison_picture
from hldm.study.statistics import NOTHING

PICTURE = ROOT / "docs" / "images" / "diffusion_samples.png"

BY_CLASS = "geometry=euclidean,poincare,hybrid seed=0,1,2"
BY_TEXT = f"{BY_CLASS} conditioning=text"


def model(cell: Cell) -> str:
    """What the second stage is."""
    more = " with 20 evaluations" if "diffusion.sampler.steps" in cell.settings else ""
    return f"{cell.settings.get('conditioning', 'class')}, {cell.settings.get('diffusion', 'flow')}{more}"


def geometry(cell: Cell) -> str:
    """The geometry of the latents."""
    return cell.config.geometry.name


def over_reconstructions(cell: Cell) -> str:
    """The FID of the samples over that of the reconstructions."""
    floor = cell.figures("reconstruction_fid")
    ratios = [fid / floor[seed] for seed, fid in cell.figures("fid").items() if seed in floor]
    return f"{fmean(ratios):.1f}" if ratios else NOTHING


def least_minutes(*stages: str) -> Column:
    """A column with the least time that these stages took together, of the runs that had to do all of them."""

    def column(cell: Cell) -> str:
        seconds = [[run.get("seconds", {}).get(stage, 0) for stage in stages] for run in cell.runs.values()]
        done = [sum(of_run) for of_run in seconds if min(of_run) > 1]
        return f"{min(done) / 60:.1f}" if done else NOTHING

    return column


def draw(plans: Plans) -> None:
    """Samples of seed 0, geometries beside each other, by class above and by text below; once all six are there."""
    points = [(kind, p) for kind, grid in (("class", BY_CLASS), ("text", BY_TEXT)) for p in plans[grid]]
    pictures = [
        (f"{point.config.geometry.name}, by {kind}", point.run.path / "samples.png")
        for kind, point in points
        if point.config.seed == 0
    ]
    if all(file.is_file() for _, file in pictures):
        comparison_picture(pictures, PICTURE, columns=3, width=604)


PAGE = ResultsPage(
    "diffusion",
    {
        "quality": Table(
            [BY_CLASS, BY_TEXT, f"{BY_CLASS} diffusion=ddpm", f"{BY_CLASS} diffusion.sampler.steps=10"],
            {
                "model": model,
                "geometry": geometry,
                "network evaluations": mean("network_evaluations", 0),
                "FID": spread("fid", 3),
                "less euclidean's": less_first("fid", 3),
                "÷ FID of reconstructions": over_reconstructions,
                "IS": mean("inception_score"),
                "label accuracy, %": spread("label_accuracy", 1, scale=100),
                "least minutes": least_minutes("diffusion", "evaluation"),
            },
        ),
        "first stages": Table(
            [BY_CLASS],
            {
                "geometry": geometry,
                "reconstruction error": spread("reconstruction_mse", 4),
                "FID of reconstructions": spread("reconstruction_fid", 3),
                "√c·rms of means": spread("sqrt_c_rms"),
                "√c·rms as drawn": spread("sqrt_c_rms_drawn"),
                "δ_rel": spread("delta_rel", 3),
                "δ_rel of the Gaussian": spread("delta_rel_gaussian", 3),
                "least minutes": least_minutes("first_stage"),
            },
        ),
    },
    draw,
)

if __name__ == "__main__":
    sys.exit(start(PAGE))
