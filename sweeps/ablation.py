"""Hyperbolic switches one at a time: runs what is missing, then fills the tables of docs/results/ablation.md.

    python sweeps/ablation.py [setting=value …]    settings of train.py, such as hardware=cpu or tracking=none
    python sweeps/ablation.py --tables             only the page, from the runs that there are

The cells of `python train.py sweep=ablation` that say something, three seeds each, and five of those that say what
latents on balls do: 30 runs of seven minutes on two quiet processor cores, ten of which the page on diffusion has too.
It can be stopped at any time and goes on from there.
"""

import sys

from results_page import ResultsPage, Row, Table, Verdict, compared, mean, start

from hldm.config.options import Options, description

CELLS = Options().groups["ablation"]

LATENTS = "baseline,latent,decoder"
"""The cells that carry the claim: latents on balls against flat ones."""

LAYERS = "stem,distance,attention,conditioning,all"
"""The other cells. Those with curvature 0 are the baseline, or `distance`, bit for bit, as tests say."""

GRIDS = [
    f"sweep=ablation experiment=mnist_8x8 ablation={LATENTS} seed=0,1,2,3,4",
    f"sweep=ablation experiment=mnist_8x8 ablation={LAYERS} seed=0,1,2",
]


def name(row: Row) -> str:
    """The option that makes the cell."""
    return row.settings["ablation"]


def what(row: Row) -> str:
    """Its sentence."""
    return description(CELLS[name(row)]).rstrip(".")


PAGE = ResultsPage(
    "ablation",
    {
        "samples": Table(
            GRIDS,
            {
                "cell": name,
                "what it is": what,
                "FID, no guidance": compared("fid_unguided"),
                "FID, best guidance": compared("fid_best"),
                "FID, guidance 1.5": compared("fid"),
                "FID (unlabelled), best guidance": compared("fid_unlabelled_best"),
                "label accuracy, %": compared("label_accuracy"),
            },
        ),
        "latents": Table(
            GRIDS,
            {
                "cell": name,
                "bound with diffusion, nats": compared("elbo_flow"),
                "its rate, nats": compared("elbo_flow_rate"),
                "FID of reconstructions": compared("reconstruction_fid"),
                "rate (KL), nats": compared("elbo_kl"),
                "√c·rms as drawn": mean("sqrt_c_rms_drawn"),
            },
        ),
        "verdict": Verdict(GRIDS),
    },
)

if __name__ == "__main__":
    sys.exit(start(PAGE))
