"""Mathieu et al. (2019) reproduced: runs what is missing, then fills the tables of docs/results/pvae.md.

    python sweeps/pvae.py [setting=value …]    settings go to train.py, such as hardware=cpu or tracking=none
    python sweeps/pvae.py --tables             only the tables, from the runs that there are

Hours on two processor cores; it can be stopped at any time and goes on from there. Figures of finished runs are kept
in docs/results/pvae.json, so that another machine runs only what is missing there.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hldm.files import write_text_atomically  # noqa: E402 - the folder above is not on the path of a script
from hldm.study.config import compose  # noqa: E402
from hldm.study.identity import run_identity  # noqa: E402
from hldm.study.run_directory import RunDirectory  # noqa: E402

PAGE = ROOT / "docs" / "results" / "pvae.md"
FIGURES = PAGE.with_suffix(".json")

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


def recorded() -> dict[str, dict[str, Any]]:
    """Arguments of a run → its figures, as kept in docs/results/pvae.json."""
    return json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.is_file() else {}


def collect(settings: list[str]) -> None:
    """Take the figures of finished runs into docs/results/pvae.json."""
    figures = recorded()
    for arguments in all_runs():
        config = compose([*arguments, *settings])
        path = Path(config["paths"]["outputs"]) / config["study"] / run_identity(config).name
        run = RunDirectory(path)
        if run.state == "finished" and (results := run.results):
            metrics = {key: results["metrics"][key] for key in KEPT if key in results["metrics"]}
            provenance = results["provenance"]
            own = {"machine": provenance["machine"], "threads": provenance["threads"]}
            known = figures.get(" ".join(arguments), {})
            if {key: known.get(key) for key in metrics} != metrics:
                own |= {"torch": provenance["versions"]["torch"], "date": date.today().isoformat()}
                figures[" ".join(arguments)] = {**metrics, **own, "minutes": run.status["minutes"]}
    write_text_atomically(FIGURES, json.dumps(figures, indent=1, ensure_ascii=False) + "\n")


def fill_page() -> None:
    """Replace what stands between the page's markers by the tables of what is recorded."""
    page = PAGE.read_text(encoding="utf-8")
    for name, lines in (("mnist", mnist_table()), ("tree", tree_table())):
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page = marked.sub(lambda found, lines=lines: found[1] + "\n".join(lines) + "\n" + found[2], page)
    write_text_atomically(PAGE, page)


def mnist_table() -> Iterator[str]:
    figures = recorded()
    yield from header("n", "c", "posterior", "gyroplane", "paper", "importance sampling", "difference", "quadrature",
                      "−ELBO", "seeds")  # fmt: skip
    for cell in MNIST:
        runs = [run for seed in MNIST_SEEDS if (run := figures.get(" ".join(mnist_run(cell, seed))))]
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


def tree_table() -> Iterator[str]:
    figures = recorded()
    yield from header("c", "posterior", "authors' code, one seed", "quadrature", "importance sampling",
                      "radius against depth, ρ", "seeds")  # fmt: skip
    for cell in TREE:
        runs = [run for seed in TREE_SEEDS if (run := figures.get(" ".join(tree_run(cell, seed))))]
        if not runs:
            continue
        columns = [spread([run[key] for run in runs]) for key in ("nll", "nll_importance", "radius_depth_spearman")]
        is_flat = cell[0] == FLAT
        yield (
            f"| {'flat' if is_flat else cell[0]} | {'normal' if is_flat else cell[1]} | {TREE_PAPER.get(cell, '–')} | "
            f"{' | '.join(columns)} | {len(runs)} |"
        )


def header(*names: str) -> Iterator[str]:
    """The first two lines of a table."""
    yield f"| {' | '.join(names)} |"
    yield "|" + "---|" * len(names)


def spread(values: list[float]) -> str:
    """The mean and, in brackets, the values it is of."""
    if not values:
        return "–"
    return f"{fmean(values):.2f} ({', '.join(f'{value:.2f}' for value in values)})"


def main() -> int:
    """Exit status: that of the first run that failed."""
    settings = [argument for argument in sys.argv[1:] if argument != "--tables"]
    collect(settings)
    fill_page()
    for arguments in [] if "--tables" in sys.argv else all_runs():
        if " ".join(arguments) in recorded():
            continue
        status = subprocess.run([sys.executable, str(ROOT / "train.py"), *arguments, *settings], check=False).returncode
        if status:
            return status
        collect(settings)
        fill_page()
    print(f"{len(recorded())} runs: {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
