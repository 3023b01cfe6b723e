"""Quality of the whole model: runs what is missing, then fills the tables and the picture of docs/results/diffusion.md.

    python sweeps/diffusion.py [setting=value …]    settings of train.py, such as hardware=cpu or tracking=none
    python sweeps/diffusion.py --tables             only the page, from the runs that there are

Fifteen runs of the default, as many of the default before, and twelve of text and ddpm: seven to eight minutes each on
two quiet processor cores. It can be stopped at any time and goes on from there.
"""

import sys
from statistics import fmean

from results_page import (
    ROOT,
    Column,
    CurveTable,
    Plans,
    ResultsPage,
    Row,
    Table,
    Verdict,
    compared,
    mean,
    spread,
    start,
)

from hldm.drawing import save
from hldm.study.pictures import Tile, tiles_figure
from hldm.study.statistics import NOTHING

PICTURE = ROOT / "docs" / "images" / "diffusion_samples.png"

BY_CLASS = "geometry=euclidean,poincare,hybrid seed=0,1,2,3,4"
"""The pairs that carry a claim."""

BEFORE = f"experiment=mnist_8x8 {BY_CLASS}"
"""The same of the default before."""

OTHERS = [
    f"experiment=mnist_8x8 geometry=euclidean,poincare seed=0,1,2 {added}"
    for added in ("conditioning=text", "diffusion=ddpm")
]

GUIDED = "geometry=euclidean,poincare seed=0,1,2,3,4"


def model(row: Row) -> str:
    """What the second stage is."""
    return f"{row.settings.get('conditioning', 'class')}, {row.settings.get('diffusion', 'flow')}"


def geometry(row: Row) -> str:
    """The geometry of the latents."""
    return row.config.geometry.name


def over_reconstructions(name: str) -> Column:
    """A column with a FID over that of reconstructions from draws, which no diffusion model can be expected to beat."""

    def column(row: Row) -> str:
        floor = row.figures("reconstruction_fid_drawn")
        ratios = [fid / floor[seed] for seed, fid in row.figures(name).items() if seed in floor]
        return f"{fmean(ratios):.1f}" if ratios else NOTHING

    return column


def beside_real(row: Row) -> str:
    """Label accuracy, and that of real test images."""
    own, real = compared("label_accuracy")(row), row.summary.real.get("label_accuracy")
    return own if real is None else f"{own} (real {100 * real:.1f})"


def least_minutes(*stages: str) -> Column:
    """A column with the least time that these stages took together, of the runs that had to do all of them."""

    def column(row: Row) -> str:
        seconds = [[run.seconds.get(stage, 0) for stage in stages] for run in row.cell.runs.values()]
        done = [sum(of_run) for of_run in seconds if min(of_run) > 1]
        return f"{min(done) / 60:.1f}" if done else NOTHING

    return column


def network_evaluations(row: Row) -> str:
    """How often the network is asked for a sample."""
    found = {str(run.provenance.get("network_evaluations", NOTHING)) for run in row.cell.runs.values()}
    return ", ".join(sorted(found))


def draw(plans: Plans) -> None:
    """Samples of seed 0, geometries beside each other, once all are there."""
    first = [point for point in plans["samples"] if point.config.seed == 0]
    tiles: list[Tile | None] = [Tile(point.config.geometry.name, point.run.path / "samples.png") for point in first]
    if all(tile is not None and tile.file.is_file() for tile in tiles):
        figure = tiles_figure("Samples of the same noise, a column per digit, seed 0", [("by class", tiles)])
        save(figure, PICTURE, ("png",))


SAMPLES: dict[str, Column] = {
    "FID, no guidance": compared("fid_unguided"),
    "÷ reconstructions": over_reconstructions("fid_unguided"),
    "FID, best guidance": compared("fid_best"),
    "÷ reconstructions ": over_reconstructions("fid_best"),
    "FID, guidance 1.5": compared("fid"),
    "label accuracy, %": beside_real,
}

PAGE = ResultsPage(
    "diffusion",
    {
        "samples": Table([BY_CLASS], {"geometry": geometry, **SAMPLES, "best guidance": spread("best_guidance")}),
        "label-free": Table(
            [BY_CLASS],
            {
                "geometry": geometry,
                "FID (unlabelled), no guidance": compared("fid_unlabelled_unguided"),
                "FID (unlabelled), best guidance": compared("fid_unlabelled_best"),
                "FID (unlabelled), guidance 1.5": compared("fid_unlabelled"),
                "KID": compared("kid"),
                "precision": compared("precision"),
                "recall": compared("recall"),
            },
        ),
        "likelihood": Table(
            [BY_CLASS],
            {
                "geometry": geometry,
                "bound with diffusion, nats": compared("elbo_flow"),
                "its rate, nats": compared("elbo_flow_rate"),
                "bound with own prior, nats": compared("elbo"),
                "its rate, nats ": compared("elbo_kl"),
            },
        ),
        "first stages": Table(
            [BY_CLASS],
            {
                "geometry": geometry,
                "reconstruction error": compared("reconstruction_mse"),
                "FID of reconstructions": compared("reconstruction_fid"),
                "from draws": mean("reconstruction_fid_drawn", 3),
                "√c·rms of means": mean("sqrt_c_rms"),
                "√c·rms as drawn": mean("sqrt_c_rms_drawn"),
                "least minutes": least_minutes("first_stage"),
            },
        ),
        "guidance": CurveTable([GUIDED], "guidance", ["fid", "fid_unlabelled", "label_accuracy"]),
        "verdict": Verdict([BY_CLASS]),
        "before": Table(
            [BEFORE], {"geometry": geometry, **SAMPLES, "bound with diffusion, nats": compared("elbo_flow")}
        ),
        "verdict before": Verdict([BEFORE]),
        "others": Table(
            OTHERS,
            {
                "model": model,
                "geometry": geometry,
                "network evaluations": network_evaluations,
                **SAMPLES,
                "FID (unlabelled), best guidance": compared("fid_unlabelled_best"),
                "least minutes": least_minutes("diffusion", "evaluation"),
            },
        ),
    },
    draw,
)


if __name__ == "__main__":
    sys.exit(start(PAGE))
