"""Run directories with results that a test makes up, for what compares runs."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hldm.run.directory import RunDirectory
from hldm.study.plan import Point, make_plan
from hldm.study.points import points_of
from hldm.study.rows import rows_of_plan
from hldm.study.whole import Study

EXTRACTORS = [{"name": "digits", "sha256": "a" * 64}, {"name": "unlabelled", "sha256": "b" * 64}]

PROVENANCE: dict[str, Any] = {
    "samples": 5000,
    "sampling_seeds": [0],
    "rule": "classes as often as in the reference",
    "reference": {"data": "mnist", "split": "test", "images": 10000},
    "extractors": EXTRACTORS,
    "classifier": EXTRACTORS[0],
    "data": "d" * 64,
    "hldm": "0.2.0",
    "threads": 1,
    "machine": "x86_64",
    "versions": {"torch": "2.14.1"},
}
"""What this version says of its numbers."""

Results = Callable[[Point], Mapping[str, Any] | None]
"""results.json of a point; None for a run that failed."""


def made(tmp_path: Path, typed: str, results: Results) -> list[Point]:
    """The plan of `python train.py -m TYPED` with the files of all of its runs."""
    argv = [*typed.split(), f"paths.outputs={tmp_path}", "tracking=none"]
    for point in make_plan(points_of(argv)):
        if point.original is None:
            run = RunDirectory.create(point.run.path, point.config)
            if content := results(point):
                run.write_results({"provenance": PROVENANCE, **content})
                run.update_status(state="finished", minutes=4.5, seconds={"diffusion": 200.0})
            else:
                run.update_status(state="failed", error="no luck")
    return make_plan(points_of(argv))


def usual(point: Point, ball: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Results as those of the default model: each seed moves both geometries, the ball by `ball` from flat space."""
    seed, is_ball = point.config.seed, not point.config.has_flat_latents
    rng = np.random.default_rng([seed, is_ball])
    both = np.random.default_rng([seed, 7]).normal(0, 0.03)
    apart = {"fid_unguided": 0.38, "elbo_flow": -6.1, "reconstruction_fid": -0.01, **(ball or {})}
    flat = {
        "fid_unguided": (0.82, 0.05), "fid_best": (0.28, 0.01), "fid": (0.36, 0.02),
        "fid_unlabelled_unguided": (15.5, 0.5), "fid_unlabelled_best": (7.3, 0.2), "fid_unlabelled": (16.3, 0.5),
        "kid": (0.015, 0.001), "precision": (0.9, 0.004), "recall": (0.8, 0.004), "label_accuracy": (0.985, 0.001),
        "elbo_flow": (-108.0, 0.5), "reconstruction_fid": (0.17, 0.003), "reconstruction_mse": (0.0046, 0.0001),
        "elbo": (-170.0, 0.8), "elbo_kl": (108.0, 1.0),
    }  # fmt: skip
    metrics = {
        name: value + both * sd + float(rng.normal(0, sd)) + (apart.get(name, 0) if is_ball else 0)
        for name, (value, sd) in flat.items()
    }
    images = np.random.default_rng([seed, 3]).normal(0, 20, 200) + rng.normal(0, 5, 200)
    images += metrics["elbo_flow"] - images.mean()
    points = [
        {"value": scale, "fid": metrics["fid"] + (scale - 1.5) ** 2, "label_accuracy": 0.9 + 0.05 * scale}
        for scale in (1.0, 1.5, 2.0)
    ]
    return {
        "metrics": metrics | {"floor_fid": 0.047, "floor_label_accuracy": 0.991, "fid_bootstrap_sd": 0.012},
        "per_image": {"elbo_flow": images.tolist()},
        "curves": {"guidance": {"split": "validation", "samples": 1000, "points": points, "best": 1.5}},
        "provenance": PROVENANCE,
    }


def small_study(tmp_path: Path, whole: Results) -> Study:
    """Flat space and two balls over three seeds, of which the last failed on balls; the others have `whole` results."""

    def results(point: Point) -> Mapping[str, Any] | None:
        return None if point.config.seed == 2 and not point.config.has_flat_latents else whole(point)

    plan = made(tmp_path, "geometry=euclidean,poincare curvature=0.1,1 seed=0,1,2", results)
    return Study.of(plan[0].config.study_folder, rows_of_plan(plan))


MACHINE = {
    "parameters": {"autoencoder": 191_000, "denoiser": 792_000},
    "sampling_batch_size": 500,
    "commit": "1" * 40,
    "dirty": False,
}
"""The rest of what this version says, of runs that were fairly compared."""


def dressed(point: Point) -> dict[str, Any]:
    """The `usual` results with hierarchy and whole provenance; writes the other files that a run leaves."""
    config, results = point.config, usual(point)
    seed, folder = config.seed, point.run.path
    rng = np.random.default_rng([seed, int(config.curvature.value * 1000), not config.has_flat_latents])
    results["metrics"] |= {
        "quartet_p": 0.05, "tree_correlation": 0.6 + 0.02 * rng.normal(), "tree_correlation_null": 0.02 * rng.normal(),
        "delta_rel": 0.21 + 0.01 * rng.normal(), "delta_rel_gaussian": 0.24, "delta_rel_shuffled": 0.25,
        "sqrt_c_rms": 1.1,
    }  # fmt: skip
    more = 3000 if not config.has_flat_latents else 0
    results["provenance"] = {
        **PROVENANCE, **MACHINE, "data_order": f"{seed}" * 64, "command": "hldm train -m …",
        "parameters": {**MACHINE["parameters"], "denoiser": 792_000 + more},
    }  # fmt: skip
    steps = np.arange(10, 2000, 10)
    lines = [
        {"stage": stage, "step": int(step), "loss": float(2 / step**0.3 + 0.02 * rng.normal()), "gradient_norm": 1.0}
        for stage in ("first_stage", "diffusion")
        for step in steps
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    grid = Image.fromarray(drawn_grid(rng))
    grid.resize((2 * grid.width, 2 * grid.height), Image.Resampling.NEAREST).save(folder / "samples.png")
    (folder / "latents.json").write_text(json.dumps(latents(point, rng)), encoding="utf-8")
    return results


def drawn_grid(rng: np.random.Generator) -> Any:
    """A hundred strokes, as a grid of samples has digits."""
    y, x = np.mgrid[0:28, 0:28]
    grid = np.full((302, 302), 96, np.uint8)
    for i in range(100):
        a, b, r = rng.uniform(8, 20), rng.uniform(8, 20), rng.uniform(4, 9)
        stroke = 255 * np.exp(-((np.hypot(x - a, y - b) - r) ** 2) / 3)
        top, left = (i // 10) * 30 + 2, (i % 10) * 30 + 2
        grid[top : top + 28, left : left + 28] = stroke.astype(np.uint8)
    return grid


def latents(point: Point, rng: np.random.Generator) -> dict[str, Any]:
    """latents.json of a run."""
    labels = rng.integers(0, 10, 400)
    angles = labels * 0.628 + 0.2 * rng.normal(size=400)
    radii = rng.gamma(4, 0.4, 400)
    is_flat = point.config.has_flat_latents
    points = np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)
    return {
        "kind": "components" if is_flat else "disk",
        "curvature": 0.0 if is_flat else point.config.curvature.value,
        "points": points.tolist(),
        "labels": labels.tolist(),
        "class_names": [f"digit {label}" for label in range(10)],
        "explained": [0.31, 0.22] if is_flat else None,
        "sqrt_c_rms": None if is_flat else 1.1,
        "parents": None,
    }
