"""What the latents of a finished run say about the curvature of their space: `hldm curvature`."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hldm.config.metrics import Metrics
from hldm.data import Dataset, Split
from hldm.files import write_atomically
from hldm.geometry import Manifold
from hldm.metrics import curvature_reach, latent_hierarchy
from hldm.metrics.curvature_profile import ERRORS, Profile, balls_of, curvature_profiles
from hldm.model import LatentModel
from hldm.pipeline.profile_picture import save_profiles
from hldm.training import encode, stream

POINCARE_DELTA = 0.144
"""δ of the Poincaré disk at c = 1, as Khrulkov et al. (2020), section 3.2, take it."""
FLAT_REACH = 0.1
"""√c·rms below which space is flat for the latents."""
IMAGES_PER_CLASS = 50
"""With fewer, the means of classes would be noise: all images then have one centre."""


@torch.no_grad()
def curvature_report(
    model: LatentModel, dataset: Dataset, settings: Metrics, *, images: int, seed: int
) -> dict[str, Any]:
    """Everything that `hldm curvature` says, for JSON: δ, how far curvature reaches, and the likelihood of every c.

    Args:
        images: how many validation images are looked at, training images where a run has no others.
    """
    name = "validation" if len(dataset.validation) else "train"
    split: Split = getattr(dataset, name)
    shown, labels = split.first(images), split.labels[:images]
    encoded = encode(model, shown)
    autoencoder, layout = model.autoencoder, model.autoencoder.layout
    drawn = autoencoder.draw(encoded, stream(seed, "curvature", device=model.device))
    parts = list(zip(layout.factors(encoded.loc), layout.factors(drawn), strict=True))
    balls = [part for (manifold, v), _ in parts for part in balls_of(manifold, v)]
    by_class = dataset.parents is None and len(shown) >= IMAGES_PER_CLASS * len(labels.unique())
    groups, clusters = (labels, None) if by_class else (torch.zeros_like(labels), labels)
    profiles = curvature_profiles(balls, groups, clusters, seed=seed) if balls else {}
    manifold, v = parts[-1][0]
    report = {
        "images": {"split": name, "number": len(shown), "held_out": len(shown) // 2},
        "centres": "classes" if by_class else "all images",
        "curvatures": [float(c) for c in autoencoder.manifold.curvatures()],
        "balls": sum(part.shape[1] for part in balls),
        "dimension": max((part.shape[2] for part in balls), default=1),
        "reach": {
            of: reach(*means, *draws)
            for of, (means, draws) in zip(("latents",) if len(parts) == 1 else ("map", "point"), parts, strict=True)
        },
        "delta": delta_estimate(manifold, v, settings, seed),
        "profiles": {family: asdict(profile) for family, profile in profiles.items()},
        "better": max(profiles, key=lambda family: likelihood(profiles[family])) if profiles else None,
    }
    return report | {"words": words(report, profiles)}


def likelihood(profile: Profile) -> float:
    """Nats per held-out image at the best c."""
    return profile.flat + max(0.0, *profile.gain)


def reach(manifold: Manifold, means: Tensor, _: Manifold, drawn: Tensor) -> dict[str, dict[str, float]]:
    """√c·rms of posterior means, of the noise around them as it lies in the frame at the mean, and of both together."""
    noise = manifold.add_normal(-means, drawn, 1)
    found = {"means": means, "noise": noise, "drawn": drawn}
    return {name: {"rms": float(x.square().mean().sqrt()), **curvature_reach(manifold, x)} for name, x in found.items()}


def delta_estimate(manifold: Manifold, v: Tensor, settings: Metrics, seed: int) -> dict[str, float]:
    """c = (0.144/δ_rel)² of Khrulkov et al. (2020), section 3.2, beside that of a Gaussian of equal covariance."""
    points, tries = min(settings.hierarchy.points, len(v)), settings.hierarchy.tries
    bases = settings.hierarchy.base_points
    found = latent_hierarchy(manifold, v, {}, points=points, tries=tries, base_points=bases, seed=seed)

    def c(delta: float) -> float:
        return (POINCARE_DELTA / delta) ** 2 if delta else math.inf

    return {
        "points": points,
        "tries": tries,
        "base_points": int(found["delta_base_points"]),
        "delta_rel": found["delta_rel"],
        "curvature": c(found["delta_rel"]),
        "delta_rel_gaussian": found["delta_rel_gaussian"],
        "curvature_gaussian": c(found["delta_rel_gaussian"]),
        "saturation": found["saturation"],
    }


def words(report: dict[str, Any], profiles: dict[str, Profile]) -> list[str]:
    """What follows from a report, and what does not, a paragraph each."""
    delta, said = report["delta"], []
    said.append(
        f"δ_rel = {delta['delta_rel']:.3f} ({delta['points']} points, {delta['base_points']} base points, "
        f"{delta['tries']} draws) would mean c = (0.144/δ_rel)² = {delta['curvature']:.2g} (Khrulkov et al. 2020). A "
        f"Gaussian of the same covariance has δ_rel = {delta['delta_rel_gaussian']:.3f} and "
        f"c = {delta['curvature_gaussian']:.2g}. This is no estimate of the c of these latents: δ_rel has no unit "
        "while c has 1/length², it never gives 0, it grows with the number of points and moves with the base points, "
        "Gaussians of many dimensions look the same, and points at the clamp of the number format "
        f"({delta['saturation']:.1%} here) are all at one radius."
    )
    far = 0.0
    for of, kinds in report["reach"].items():
        numbers = ", ".join(f"{kind} {value['sqrt_c_rms']:.3g}" for kind, value in kinds.items())
        said.append(f"How far curvature reaches, √c·rms of a coordinate of the {of}: {numbers}.")
        far = max(far, kinds["means"]["sqrt_c_rms"])
    if not profiles:
        return [*said, "c is unidentifiable. Every ball has one dimension, and a line is flat at any c."]
    best = profiles[report["better"]]
    at = best.gain.index(max(best.gain))
    gain = f"{best.gain[at]:.3g} ± {best.error[at]:.2g} nats per image"
    laws = f"{report['better'].capitalize()} normals around the means of {report['centres']}"
    if best.is_identified:
        said.append(
            f"The latents tell c = {best.best:.3g} (95 %: {best.interval[0]:.3g} to {best.interval[1]:.3g}) in this "
            f"encoder's normal coordinates: {laws} are better than in flat space by {gain} on "
            f"{report['images']['held_out']} held-out images."
        )
    else:
        said.append(" ".join(["c is unidentifiable.", *reasons(report, best, f"{laws}: {gain}", far)]))
    said.append(
        "The profile holds the encoder fixed, which was trained at its own c and follows it. Its laws are one cloud "
        "for each centre and ball, wrapped normals of any covariance or round Riemannian ones, of which the likelier "
        "speak here: what real clouds have beside that, skew or several lumps, may read as curvature, or hide it."
    )
    return said


def reasons(report: dict[str, Any], best: Profile, gain: str, far: float) -> list[str]:
    """Why no c is told apart from flat space."""
    found = []
    if best.best >= best.curvatures[-1] and best.interval[0] > 0:
        found.append(f"The likelihood still rises at c = {best.best:.3g}, where the grid ends ({gain}).")
    else:
        found.append(f"No c is better than flat space beyond the error ({gain} at the best of the grid).")
    if (worse := excluded_above(best)) is not None:
        found.append(f"From c = {worse:.2g} on, all are worse than flat space by more than {ERRORS:g} standard errors.")
    if 0 < far < FLAT_REACH:
        found.append(f"√c·rms of the means is {far:.2g}, below {FLAT_REACH:g}: there, space is flat for them.")
    if report["balls"] > 1:
        found.append(
            f"A latent is a point of {report['balls']} balls of dimension {report['dimension']}. They contain "
            f"flat space of {report['balls']} dimensions, so only what happens within single balls can tell."
        )
    return found


def excluded_above(profile: Profile) -> float | None:
    """The smallest c from which all of the grid are worse than flat space beyond the error; None where none is."""
    worse = None
    for c, gain, error in reversed(list(zip(profile.curvatures, profile.gain, profile.error, strict=True))):
        if gain + ERRORS * error >= 0:
            break
        worse = c
    return worse


def write_report(folder: Path, report: dict[str, Any]) -> list[Path]:
    """Write curvature_profile.json and, where there is a profile, curvature_profile.png into a run's folder."""
    numbers, picture = folder / "curvature_profile.json", folder / "curvature_profile.png"
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    write_atomically(numbers, lambda file: file.write_text(text, encoding="utf-8"))
    if not report["profiles"]:
        return [numbers]
    own = max(report["curvatures"], default=0.0)
    save_profiles(picture, {name: Profile(**values) for name, values in report["profiles"].items()}, own)
    return [numbers, picture]
