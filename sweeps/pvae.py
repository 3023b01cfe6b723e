"""Mathieu et al. (2019) reproduced: runs what is missing, then fills the tables of docs/results/pvae.md.

    python sweeps/pvae.py [setting=value …]    settings of train.py, such as hardware=cpu or tracking=none
    python sweeps/pvae.py --tables             only the tables, from the runs that there are

Hours on two processor cores; it can be stopped at any time and goes on from there. Figures of finished runs are kept
in docs/results/pvae.json, so that another machine runs only what is missing there.
"""

import sys
from statistics import fmean

from results_page import Column, ResultsPage, Row, Table, spread, start

from hldm.config.autoencoder import MLP
from hldm.study import statistics

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


def dimension(row: Row) -> str:
    """The dimension n of the latents."""
    return str(row.config.autoencoder.latent_channels)


def curvature(row: Row) -> str:
    """The curvature c, or "flat" for the model without gyroplanes."""
    return row.config.curvature_words


def posterior(row: Row) -> str:
    """The distribution of the posterior, which is a plain normal in flat space."""
    return "normal" if row.config.is_flat else _mlp(row).posterior


def form(row: Row) -> str:
    """The form of the gyroplane layer."""
    return statistics.NOTHING if row.config.is_flat else _mlp(row).gyroplane_form


def paper(row: Row) -> str:
    """The figure of the paper."""
    return PAPER.get((dimension(row), curvature(row), posterior(row)), statistics.NOTHING)


def sampled(row: Row) -> list[float]:
    """−log p(x) by importance sampling, which is `nll` itself where there is no quadrature beside it."""
    return [run.metrics.get("nll_importance", run.metrics["nll"]) for run in row.cell.runs.values()]


def importance(row: Row) -> str:
    """The figure of each seed, with the largest standard error that was recorded."""
    errors = row.figures("nll_importance_error").values()
    return statistics.spread(sampled(row)) + (f" ± {max(errors):.1f}" if errors else "")


def less_paper(row: Row) -> str:
    """The difference from the paper's mean."""
    known = paper(row)
    return known if known == statistics.NOTHING else f"{fmean(sampled(row)) - float(known.split()[0]):+.1f}"


def quadrature(row: Row) -> str:
    """−log p(x) by quadrature, which there is for n = 2."""
    return spread("nll")(row) if row.figures("nll_importance") else statistics.NOTHING


def _mlp(row: Row) -> MLP:
    assert isinstance(row.config.autoencoder, MLP)
    return row.config.autoencoder


MNIST: dict[str, Column] = {
    "n": dimension,
    "c": curvature,
    "posterior": posterior,
    "gyroplane": form,
    "paper": paper,
    "importance sampling": importance,
    "difference": less_paper,
    "quadrature": quadrature,
    "−ELBO": lambda row: statistics.spread(-value for value in row.figures("elbo").values()),
}
TREE: dict[str, Column] = {
    "c": curvature,
    "posterior": posterior,
    "authors' code, one seed": lambda row: AUTHORS.get((curvature(row), posterior(row)), statistics.NOTHING),
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
