"""Mathieu et al. (2019) reproduced: runs what is missing, then fills the tables of docs/results/pvae.md.

    python sweeps/pvae.py [setting=value …]    settings go to train.py, such as hardware=cpu or tracking=none
    python sweeps/pvae.py --tables             only the tables, from the runs that there are

Hours on two processor cores; it can be stopped at any time and goes on from there. Figures of finished runs are kept
in docs/results/pvae.json, so that another machine runs only what is missing there.
"""

import sys
from collections.abc import Iterator
from functools import partial
from statistics import fmean

from results_page import ROOT, Figures, ResultsPage, header, of_seeds, spread

PAGE = ROOT / "docs" / "results" / "pvae.md"

KEPT = ("nll", "nll_sd", "nll_error", "nll_importance", "nll_importance_error", "elbo", "elbo_kl", "sqrt_c_rms",
        "delta_rel", "delta_rel_gaussian", "radius_depth_spearman")  # fmt: skip

FLAT = "geometry=euclidean"
PAPER = {
    (FLAT, "wrapped", 2): "144.5 ± 0.4",
    ("0.1", "wrapped", 2): "143.9 ± 0.5",
    ("0.7", "wrapped", 2): "143.8 ± 0.6",
    ("1.4", "wrapped", 2): "144.0 ± 0.6",
    ("0.7", "riemannian", 2): "143.1 ± 0.4",
    ("1.4", "riemannian", 2): "142.5 ± 0.4",
    (FLAT, "wrapped", 10): "100.2 ± 0.1",
    ("0.7", "wrapped", 10): "100.2 ± 0.1",
}
"""−log p(x) on MNIST by importance sampling with 5,000 samples, table 2 of the paper."""

MNIST = [  # curvature (FLAT: none), distribution, latent dimension, form of the gyroplane layer
    (FLAT, "wrapped", 2, "pvae"),
    ("0", "wrapped", 2, "pvae"),  # flat, with the layer of the curved ones
    ("0.1", "wrapped", 2, "pvae"),
    ("0.7", "wrapped", 2, "pvae"),
    ("1.4", "wrapped", 2, "pvae"),
    ("0.7", "riemannian", 2, "pvae"),
    ("1.4", "riemannian", 2, "pvae"),
    (FLAT, "wrapped", 10, "pvae"),
    ("0.7", "wrapped", 10, "pvae"),
    ("0.7", "wrapped", 2, "paper"),
    ("1.4", "wrapped", 2, "paper"),
]
MNIST_SEEDS = (0, 1)

TREE = [(FLAT, "wrapped"), ("1.2", "wrapped"), ("1.2", "riemannian")]
TREE_PAPER = {(FLAT, "wrapped"): "56.75", ("1.2", "wrapped"): "57.33"}
"""Of the authors' code, one seed, corrected for the batch that it leaves out of the sum but not of the mean."""

TREE_SEEDS = (0, 1, 2)


def mnist_run(cell: tuple[str, str, int, str], seed: int) -> list[str]:
    """The arguments of train.py."""
    curvature, distribution, latent_dim, form = cell
    return [
        "+experiment=pvae_mnist",
        *geometry(curvature),
        f"latent_dim={latent_dim}",
        f"distribution={distribution}",
        f"form={form}",
        f"seed={seed}",
    ]


def tree_run(cell: tuple[str, str], seed: int) -> list[str]:
    """The arguments of train.py: every seed has its own tree."""
    curvature, distribution = cell
    own = [f"distribution={distribution}", f"dataset.seed={seed}", f"seed={seed}"]
    return ["+experiment=pvae_tree", *geometry(curvature), *own]


def geometry(curvature: str) -> list[str]:
    return [FLAT] if curvature == FLAT else ["geometry=poincare", f"curvature={curvature}"]


def all_runs() -> Iterator[list[str]]:
    """Seed by seed, so that every cell has a figure early."""
    for seed in TREE_SEEDS:
        yield from (tree_run(cell, seed) for cell in TREE)
    for seed in MNIST_SEEDS:
        yield from (mnist_run(cell, seed) for cell in MNIST)


def mnist_table(figures: Figures) -> Iterator[str]:
    yield from header("n", "c", "posterior", "gyroplane", "paper", "importance sampling", "difference", "quadrature",
                      "−ELBO", "seeds")  # fmt: skip
    for cell in MNIST:
        runs = list(of_seeds(figures, MNIST_SEEDS, partial(mnist_run, cell)).values())
        if not runs:
            continue
        curvature, distribution, latent_dim, form = cell
        is_flat = curvature == FLAT
        paper = PAPER.get((curvature, distribution, latent_dim), "–")
        sampled = [run.get("nll_importance", run["nll"]) for run in runs]
        difference = "–" if paper == "–" else f"{fmean(sampled) - float(paper.split()[0]):+.1f}"
        errors = [run["nll_importance_error"] for run in runs if "nll_importance_error" in run]
        error = f" ± {max(errors):.1f}" if errors else ""
        exact = [run["nll"] for run in runs] if "nll_importance" in runs[0] else []
        yield (
            f"| {latent_dim} | {'flat' if is_flat else curvature} | {'normal' if is_flat else distribution} | "
            f"{'–' if is_flat else form} | {paper} | {spread(sampled)}{error} | {difference} | {spread(exact)} | "
            f"{spread([-run['elbo'] for run in runs])} | {len(runs)} |"
        )


def tree_table(figures: Figures) -> Iterator[str]:
    yield from header("c", "posterior", "authors' code, one seed", "quadrature", "importance sampling",
                      "radius against depth, ρ", "seeds")  # fmt: skip
    for cell in TREE:
        runs = list(of_seeds(figures, TREE_SEEDS, partial(tree_run, cell)).values())
        if not runs:
            continue
        columns = [spread([run[key] for run in runs]) for key in ("nll", "nll_importance", "radius_depth_spearman")]
        is_flat = cell[0] == FLAT
        yield (
            f"| {'flat' if is_flat else cell[0]} | {'normal' if is_flat else cell[1]} | {TREE_PAPER.get(cell, '–')} | "
            f"{' | '.join(columns)} | {len(runs)} |"
        )


if __name__ == "__main__":
    tables = {"mnist": mnist_table, "tree": tree_table}
    sys.exit(ResultsPage(PAGE, list(all_runs()), KEPT, tables).main(sys.argv[1:]))
