"""Mathieu et al. (2019) reproduced: runs what is missing, then fills the tables of docs/results/pvae.md.

    python sweeps/pvae.py [setting=value …]    settings of train.py, such as hardware=cpu or tracking=none
    python sweeps/pvae.py --tables             only the tables, from the runs that there are

Hours on two processor cores; it can be stopped at any time and goes on from there. Figures of finished runs are kept
in docs/results/pvae.json, so that another machine runs only what is missing there.
"""

import sys
from statistics import fmean

from results_page import Column, ResultsPage, Table, spread, start

from hldm.config.autoencoder import MLP
from hldm.study import statistics
from hldm.study.cells import Cell

PAPER = {
    ("2", "flat", "normal"): "144.5 ± 0.4",
    ("2", "0.1", "wrapped"): "143.9 ± 0.5",
    ("2", "0.7", "wrapped"): "143.8 ± 0.6",
    ("2", "1.4", "wrapped"): "144.0 ± 0.6",
    ("2", "0.7", "riemannian"): "143.1 ± 0.4",
    ("2", "1.4", "riemannian"): "142.5 ± 0.4",
    ("10", "flat", "normal"): "100.2 ± 0.1",
    ("10", "0.7", "wrapped"): "100.2 ± 0.1",
}
"""−log p(x) on MNIST by importance sampling with 5,000 samples, table 2 of the paper."""

AUTHORS = {("flat", "normal"): "56.75", ("1.2", "wrapped"): "57.33"}
"""−log p(x) on the tree by the authors' code, one seed, corrected for the batch that their sum leaves out and their
mean does not."""


def dimension(cell: Cell) -> str:
    """The dimension n of the latents."""
    return str(cell.config.autoencoder.latent_channels)


def curvature(cell: Cell) -> str:
    """The curvature c, or "flat" for the model without gyroplanes."""
    return cell.config.curvature_words


def posterior(cell: Cell) -> str:
    """The distribution of the posterior, which is a plain normal in flat space."""
    return "normal" if cell.config.is_flat else _mlp(cell).posterior


def form(cell: Cell) -> str:
    """The form of the gyroplane layer."""
    return statistics.NOTHING if cell.config.is_flat else _mlp(cell).gyroplane_form


def paper(cell: Cell) -> str:
    """The figure of the paper."""
    return PAPER.get((dimension(cell), curvature(cell), posterior(cell)), statistics.NOTHING)


def sampled(cell: Cell) -> list[float]:
    """−log p(x) by importance sampling, which is `nll` itself where there is no quadrature beside it."""
    return [run.get("nll_importance", run["nll"]) for run in cell.runs.values()]


def importance(cell: Cell) -> str:
    """The figure of each seed, with the largest standard error that was recorded."""
    errors = cell.figures("nll_importance_error").values()
    return statistics.spread(sampled(cell)) + (f" ± {max(errors):.1f}" if errors else "")


def less_paper(cell: Cell) -> str:
    """The difference from the paper's mean."""
    known = paper(cell)
    return known if known == statistics.NOTHING else f"{fmean(sampled(cell)) - float(known.split()[0]):+.1f}"


def quadrature(cell: Cell) -> str:
    """−log p(x) by quadrature, which there is for n = 2."""
    return spread("nll")(cell) if cell.figures("nll_importance") else statistics.NOTHING


def _mlp(cell: Cell) -> MLP:
    assert isinstance(cell.config.autoencoder, MLP)
    return cell.config.autoencoder


MNIST: dict[str, Column] = {
    "n": dimension,
    "c": curvature,
    "posterior": posterior,
    "gyroplane": form,
    "paper": paper,
    "importance sampling": importance,
    "difference": less_paper,
    "quadrature": quadrature,
    "−ELBO": lambda cell: statistics.spread(-value for value in cell.figures("elbo").values()),
}
TREE: dict[str, Column] = {
    "c": curvature,
    "posterior": posterior,
    "authors' code, one seed": lambda cell: AUTHORS.get((curvature(cell), posterior(cell)), statistics.NOTHING),
    "quadrature": quadrature,
    "importance sampling": spread("nll_importance"),
    "radius against depth, ρ": spread("radius_depth_spearman"),
}
PAGE = ResultsPage(
    "pvae",
    {
        "mnist": Table(
            [
                "sweep=pvae_mnist",
                "sweep=pvae_mnist geometry=poincare curvature=0.7,1.4 distribution=riemannian",
                "sweep=pvae_mnist curvature=0.7 latent_dim=10",
                "sweep=pvae_mnist geometry=poincare curvature=0.7,1.4 form=paper",
            ],
            MNIST,
        ),
        "tree": Table(["sweep=pvae_tree", "sweep=pvae_tree geometry=poincare distribution=riemannian"], TREE),
    },
)

if __name__ == "__main__":
    sys.exit(start(PAGE))
