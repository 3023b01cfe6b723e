"""Quality of the whole model: runs what is missing, then fills the table and the picture of docs/results/diffusion.md.

    python sweeps/diffusion.py [setting=value …]    settings go to train.py, such as hardware=cpu or tracking=none
    python sweeps/diffusion.py --tables             only the page, from the runs that there are

36 runs of three to five minutes on two quiet processor cores; it can be stopped at any time and goes on from there.
"""

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from PIL import Image, ImageDraw
from results_page import ROOT, Figures, ResultsPage, difference, header, of_seeds, spread

PAGE = ROOT / "docs" / "results" / "diffusion.md"
PICTURE = ROOT / "docs" / "images" / "diffusion_samples.png"

KEPT = ("fid", "kid", "inception_score", "label_accuracy", "reconstruction_fid", "floor_fid", "reconstruction_mse",
        "sqrt_c_rms", "sqrt_c_rms_drawn", "delta_rel", "delta_rel_gaussian")  # fmt: skip

GEOMETRIES = {
    "euclidean": ["geometry=euclidean"],
    "poincare": ["geometry=poincare", "curvature=1.0"],
    "hybrid": ["geometry=hybrid", "curvature=1.0"],
}
CELLS = {
    "class, flow": [],
    "text, flow": ["conditioning=text"],
    "class, ddpm": ["diffusion=ddpm"],
    "class, flow with 20 evaluations": ["diffusion.sampler.steps=10"],
}
SEEDS = (0, 1, 2)


def run(cell: str, geometry: str, seed: int) -> list[str]:
    """The arguments of train.py."""
    return [*GEOMETRIES[geometry], *CELLS[cell], f"seed={seed}"]


def all_runs() -> list[list[str]]:
    """Seed by seed, so that every cell has a figure early."""
    return [run(cell, geometry, seed) for seed in SEEDS for cell in CELLS for geometry in GEOMETRIES]


def least_minutes(runs: Iterable[Any], *stages: str) -> float:
    """Of these stages together, among the runs that had to do all of them."""
    seconds = [[run["seconds"][stage] for stage in stages] for run in runs]
    return min(sum(of_run) for of_run in seconds if min(of_run) > 1) / 60


def quality_table(figures: Figures) -> Iterator[str]:
    yield from header("model", "geometry", "network evaluations", "FID", "less euclidean's", "÷ FID of reconstructions",
                      "IS", "label accuracy, %", "least minutes", "seeds")  # fmt: skip
    for cell in CELLS:
        flat = of_seeds(figures, SEEDS, partial(run, cell, "euclidean"))
        for geometry in GEOMETRIES:
            found = of_seeds(figures, SEEDS, partial(run, cell, geometry))
            if not found:
                continue
            runs = list(found.values())
            fid, fid_flat = ({seed: figure["fid"] for seed, figure in of.items()} for of in (found, flat))
            apart = "–" if geometry == "euclidean" else difference(fid, fid_flat, 3)
            ratio = fmean(figure["fid"] / figure["reconstruction_fid"] for figure in runs)
            inception_score = fmean(figure["inception_score"] for figure in runs)
            yield (
                f"| {cell} | {geometry} | {runs[0]['network_evaluations']} | "
                f"{spread(list(fid.values()), 3)} | {apart} | {ratio:.1f} | {inception_score:.2f} | "
                f"{spread([100 * figure['label_accuracy'] for figure in runs], 1)} | "
                f"{least_minutes(runs, 'diffusion', 'evaluation'):.1f} | {len(runs)} |"
            )


def first_stage_table(figures: Figures) -> Iterator[str]:
    """What the runs of a geometry and seed share."""
    yield from header("geometry", "reconstruction error", "FID of reconstructions", "√c·rms of means",
                      "√c·rms as drawn", "δ_rel", "δ_rel of the Gaussian", "least minutes", "seeds")  # fmt: skip
    for geometry in GEOMETRIES:
        runs = of_seeds(figures, SEEDS, partial(run, next(iter(CELLS)), geometry)).values()
        if not runs:
            continue
        digits = {"reconstruction_mse": 4, "reconstruction_fid": 3, "sqrt_c_rms": 2, "sqrt_c_rms_drawn": 2,
                  "delta_rel": 3, "delta_rel_gaussian": 3}  # fmt: skip
        columns = [spread([figure[key] for figure in runs if key in figure], n) for key, n in digits.items()]
        every = [figure for cell in CELLS for figure in of_seeds(figures, SEEDS, partial(run, cell, geometry)).values()]
        yield f"| {geometry} | {' | '.join(columns)} | {least_minutes(every, 'first_stage'):.1f} | {len(runs)} |"


def draw_picture(page: ResultsPage, settings: list[str]) -> None:
    """Samples of seed 0, geometries beside each other, by class above and by text below; once all six are there."""
    grids = [
        [page.directory(run(cell, geometry, 0), settings).path / "samples.png" for geometry in GEOMETRIES]
        for cell in ("class, flow", "text, flow")
    ]
    if not all(path.is_file() for row in grids for path in row):
        return
    pictures = [[Image.open(path).convert("L") for path in row] for row in grids]
    width, height, gap = *pictures[0][0].size, 24
    sheet = Image.new("L", (3 * width + 2 * gap, 2 * (height + gap)), 255)
    write = ImageDraw.Draw(sheet)
    for i, (row, kind) in enumerate(zip(pictures, ("class", "text"), strict=True)):
        for j, (picture, geometry) in enumerate(zip(row, GEOMETRIES, strict=True)):
            left, top = j * (width + gap), i * (height + gap)
            write.text((left, top + 6), f"{geometry}, by {kind}", fill=0)
            sheet.paste(picture, (left, top + gap))
    Path(PICTURE).parent.mkdir(exist_ok=True)
    sheet.save(PICTURE, optimize=True)


if __name__ == "__main__":
    results = ResultsPage(PAGE, all_runs(), KEPT, {"quality": quality_table, "first stages": first_stage_table})
    status = results.main(sys.argv[1:])
    draw_picture(results, [argument for argument in sys.argv[1:] if argument != "--tables"])
    sys.exit(status)
