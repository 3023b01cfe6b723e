"""Hyperbolic switches one at a time: runs what is missing, then fills the table of docs/results/ablation.md.

    python sweeps/ablation.py [setting=value …]    settings go to train.py, such as hardware=cpu or tracking=none
    python sweeps/ablation.py --tables             only the page, from the runs that there are

The runs of `python train.py -m +sweep=ablation`, except controls that are another cell bit for bit: 24 of three to five
minutes on two quiet processor cores. It can be stopped at any time and goes on from there.
"""

import sys
from collections.abc import Iterator
from functools import partial
from statistics import fmean

from results_page import ROOT, Figures, ResultsPage, difference, header, of_seeds, spread

PAGE = ROOT / "docs" / "results" / "ablation.md"

KEPT = ("fid", "kid", "inception_score", "label_accuracy", "reconstruction_fid", "reconstruction_mse", "sqrt_c_rms",
        "sqrt_c_rms_drawn", "delta_rel", "delta_rel_gaussian")  # fmt: skip

BASELINE = "baseline"
CELLS = {
    BASELINE: "everything Euclidean",
    "latent": "latents on the ball, decoded by an affine layer",
    "decoder": "latents on the ball, decoded through gyroplanes (`geometry=poincare`)",
    "stem": "gyroplane stem of the U-Net",
    "attention": "attention by hyperbolic distance",
    "distance": "control: attention by Euclidean distance",
    "conditioning": "label embeddings on the ball",
    "all": "decoder, stem, attention and conditioning",
}
"""The other controls are one of these bit for bit (tests/test_model.py): those at c = 0 with attention by distance are
`distance`, all others the baseline."""

SEEDS = (0, 1, 2)


def run(cell: str, seed: int) -> list[str]:
    """The arguments of train.py."""
    return [f"+ablation={cell}", f"seed={seed}"]


def all_runs() -> list[list[str]]:
    """Seed by seed, so that every cell has a figure early."""
    return [run(cell, seed) for seed in SEEDS for cell in CELLS]


def ablation_table(figures: Figures) -> Iterator[str]:
    yield from header("cell", "hyperbolic", "FID", "less the baseline's", "FID of reconstructions", "label accuracy, %",
                      "√c·rms as drawn", "δ_rel (Gaussian)", "seeds")  # fmt: skip
    baseline = {seed: figure["fid"] for seed, figure in of_seeds(figures, SEEDS, partial(run, BASELINE)).items()}
    for cell, what in CELLS.items():
        found = of_seeds(figures, SEEDS, partial(run, cell))
        if not found:
            continue
        columns = {key: [figure[key] for figure in found.values()] for key in KEPT}
        fid = {seed: figure["fid"] for seed, figure in found.items()}
        apart = "–" if cell == BASELINE else difference(fid, baseline, 3)
        delta, gaussian = fmean(columns["delta_rel"]), fmean(columns["delta_rel_gaussian"])
        yield (
            f"| {cell} | {what} | {spread(columns['fid'], 3)} | {apart} | {fmean(columns['reconstruction_fid']):.3f} | "
            f"{spread([100 * share for share in columns['label_accuracy']], 1)} | "
            f"{fmean(columns['sqrt_c_rms_drawn']):.2f} | {delta:.3f} ({gaussian:.3f}) | {len(found)} |"
        )


if __name__ == "__main__":
    sys.exit(ResultsPage(PAGE, all_runs(), KEPT, {"ablation": ablation_table}).main(sys.argv[1:]))
