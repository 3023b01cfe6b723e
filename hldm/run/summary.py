"""The metrics of one run, for a terminal: a few lines in groups, each with its controls beside it."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Line:
    """One metric as people read it.

    Attributes:
        heading: what it is called, with ↑ or ↓ where that is better.
        form: how its number is written.
        unit: "" for none.
        spread: the metric that is its ±, where there is neither `<name>_seed_sd`, which counts first, nor
            `<name>_bootstrap_sd`.
        controls: (what it is, metric) of what it is compared with.
    """

    heading: str
    form: str = ".3g"
    unit: str = ""
    spread: str = ""
    controls: tuple[tuple[str, str], ...] = ()


GROUPS: dict[str, dict[str, Line]] = {
    "samples": {
        "fid_unguided": Line("FID ↓, no guidance"),
        "fid_best": Line("FID ↓, best guidance", controls=(("at", "best_guidance"),)),
        "fid": Line("FID ↓", controls=(("real images", "floor_fid"), ("from draws", "reconstruction_fid_drawn"))),
        "fid_unlabelled_best": Line("FID ↓, label-free, best", controls=(("at", "best_guidance_unlabelled"),)),
        "fid_unlabelled": Line(
            "FID ↓, label-free",
            controls=(("real images", "floor_fid_unlabelled"), ("from draws", "reconstruction_fid_unlabelled_drawn")),
        ),
        "kid": Line("KID ↓", ".3g", "", "kid_subset_sd", (("real images", "floor_kid"),)),
        "inception_score": Line(
            "inception score ↑", ".2f", "", "inception_score_split_sd", (("real images", "floor_inception_score"),)
        ),
        "precision": Line("precision ↑", ".1%", controls=(("real images", "floor_precision"),)),
        "recall": Line("recall ↑", ".1%", controls=(("real images", "floor_recall"),)),
        "density": Line("density, 1 is best", ".2f", controls=(("real images", "floor_density"),)),
        "coverage": Line("coverage ↑", ".1%", controls=(("real images", "floor_coverage"),)),
        "memorisation_share": Line("near copies (real: 5 %)", ".1%"),
        "label_accuracy": Line("label accuracy ↑", ".1%", controls=(("real images", "floor_label_accuracy"),)),
    },
    "likelihood": {
        "nll": Line("−log p(x) ↓", ".2f", "nats", "nll_error", (("importance sampling", "nll_importance"),)),
        "elbo": Line("evidence bound, own prior ↑", ".2f", "nats", "", (("KL", "elbo_kl"),)),
        "elbo_flow": Line(
            "evidence bound, diffusion ↑", ".2f", "nats", "elbo_flow_error", (("rate", "elbo_flow_rate"),)
        ),
    },
    "first stage": {
        "reconstruction_mse": Line("reconstruction error ↓", ".4f", "squared grey levels"),
        "reconstruction_psnr": Line("PSNR ↑", ".1f", "dB", "", (("SSIM", "reconstruction_ssim"),)),
        "codebook_used": Line("codes in use ↑", ".1%", "", "", (("perplexity", "codebook_perplexity"),)),
    },
    "hierarchy": {
        # no arrow: δ_rel describes, beside clouds without a hierarchy, and is no test; quartet_p is one
        "quartet_p": Line("p of no hierarchy", ".2g", controls=(("flat clusters", "clusters"),)),
        "tree_correlation": Line(
            "distances as in the tree ↑", ".2f", controls=(("by chance", "tree_correlation_null"),)
        ),
        "tree_map": Line("mAP of the tree ↑", ".2f", controls=(("by chance", "tree_map_null"),)),
        "level1_knn": Line("k-NN, first level ↑", ".1%", controls=(("by chance", "level1_knn_null"),)),
        "posterior_noise_share": Line(
            "noise in what is drawn", ".0%", controls=(("nats per position", "kl_per_position"),)
        ),
        "delta_rel": Line(
            "δ_rel",
            ".3f",
            "",
            "delta_rel_sd",
            (("Gaussian", "delta_rel_gaussian"), ("shuffled", "delta_rel_shuffled")),
        ),
        "radius_median": Line("radius, median", ".3g", "", "", (("5 %", "radius_q05"), ("95 %", "radius_q95"))),
        "radius_entropy_spearman": Line("radius with entropy", ".2f", "", "", (("by chance", "radius_entropy_null"),)),
        "radius_depth_spearman": Line("radius with depth", ".2f", "", "", (("by chance", "radius_depth_null"),)),
        "sqrt_c_rms": Line("reach of curvature, √c · rms", ".3g", "", "", (("drawn", "sqrt_c_rms_drawn"),)),
        "curvature_0": Line(
            "curvature", ".3g", "", "", (("started at", "curvature_0_start"), ("settled", "curvature_0_settled"))
        ),
    },
}
"""Group → metric → how it is shown."""

FAMILIES = (
    "best_", "clusters", "codebook_", "cophenetic", "coverage_", "curvature_", "delta_", "denoiser_curvature",
    "density_", "diameter", "elbo_", "fid_", "floor_", "inception_score_", "kid_", "kl_", "label_accuracy_", "level",
    "map_", "memorisation_", "nll_", "noise_", "point_", "positions_", "posterior_", "precision_", "quartet_",
    "radius_", "recall_", "reconstruction_", "saturation", "signal_", "sqrt_c_", "tree_",
)  # fmt: skip
"""How the other metrics of this project begin: they are left to results.json. What begins otherwise is shown."""

WITH_POWER = 8
"""Fewest dimensions where the test of hierarchy is known to find trees, by the table in docs/metrics.md."""
BLIND = (
    "A p of no hierarchy above .05 says nothing here: in two dimensions the test misses more than half of "
    "the trees of docs/metrics.md, in eight or more it finds over 80 %, and these latents have {:.0f}."
)


MATTER = frozenset({
    "fid_best", "fid", "fid_unlabelled", "kid", "precision", "recall", "label_accuracy", "memorisation_share", "nll",
    "elbo_flow", "elbo", "reconstruction_mse", "quartet_p", "tree_correlation", "delta_rel", "radius_depth_spearman",
    "sqrt_c_rms",
})  # fmt: skip
"""The metrics that a run ends with; `hldm evaluate` shows those of all `GROUPS`."""


def at_best(curves: Mapping[str, Any]) -> dict[str, float]:
    """Figures of samples beside validation images, at the best value of the first curve of results.json.

    What is best is each extractor's to say, of the metrics that end with its name; {} where there is no curve.
    """
    drawn: Mapping[str, Any] = next(iter(curves.values()), {})
    best = {name.removeprefix("best"): value for name, value in drawn.items() if name.startswith("best")}
    if drawn.get("split") != "validation":
        return {}
    found: dict[str, float] = {}
    for point in drawn["points"]:
        for name, value in point.items():
            ending = max((end for end in best if name.endswith(end)), key=len, default=None)
            if name != "value" and ending is not None and point["value"] == best[ending]:
                found[name] = value
    return found


def print_metrics(metrics: Mapping[str, float], console: Console, file: Path, *, is_short: bool = False) -> None:
    """The metrics that people look at first and those of extensions, in groups, and the file where all of them are.

    ± is the standard deviation over sampling seeds where there are several, else over the draw of the samples
    (bootstrap), else what the metric brings along.

    Args:
        file: results.json.
        is_short: only those that `MATTER`, and those of extensions.
    """
    shown: set[str] = set()
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    own = {name for lines in GROUPS.values() for name in lines}
    others = [name for name in metrics if name not in own and not name.startswith(FAMILIES) and name[-3:] != "_sd"]
    for group, lines in [*GROUPS.items(), ("others", {name: Line(name) for name in others})]:
        wanted = MATTER if is_short and group != "others" else lines.keys()
        there = {name: line for name, line in lines.items() if name in metrics and name in wanted}
        if there:
            table.add_row(group, style="bold")
        for name, line in there.items():
            spreads = (f"{name}_seed_sd", f"{name}_bootstrap_sd", line.spread)
            spread = next((key for key in spreads if key in metrics), None)
            controls = {what: key for what, key in line.controls if key in metrics}
            shown |= {name, *([spread] if spread else []), *controls.values()}
            beside = ", ".join(f"{what} {_control(metrics[key], key, line)}" for what, key in controls.items())
            table.add_row(
                f"  {line.heading}",
                _value(metrics[name], line, metrics[spread] if spread else None),
                ", ".join(filter(None, (line.unit, beside))),
            )
    console.print(table)
    # NaN and what is not there compare as false
    if metrics.get("quartet_p", 0) > 0.05 and metrics.get("quartet_dimension", math.inf) < WITH_POWER:
        console.print(BLIND.format(metrics["quartet_dimension"]))
    if rest := len(metrics) - len(shown):
        more = "1 more metric is" if rest == 1 else f"{rest} more metrics are"
        console.print(f"↑ ↓: better. {more} in")
        console.print(f"  {min(str(file), os.path.relpath(file), key=len)}", soft_wrap=True)


def _value(number: float, line: Line, spread: float | None) -> str:
    """As in "0.35 ± 0.02", or "91.2 ± 0.4 %" for a share."""
    if not line.form.endswith("%"):
        return f"{number:{line.form}}" + ("" if spread is None else f" ± {spread:.2g}")
    form = line.form.replace("%", "f")
    return f"{100 * number:{form}}" + ("" if spread is None else f" ± {100 * spread:.2g}") + " %"


def _control(number: float, name: str, line: Line) -> str:
    """What real images or chance score is of the metric's own kind, so that a share stands beside a share."""
    is_alike = name.startswith("floor_") or name.endswith("_null")
    return _value(number, line, None) if is_alike and line.form.endswith("%") else f"{number:.3g}"
