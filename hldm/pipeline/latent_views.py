"""What `hldm generate` shows of a run's latent space: samples moved, joined, averaged, and beside training images.

The mathematics is in `controls`. Here images are chosen, decoded and described.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hldm.data import Dataset
from hldm.errors import UserError
from hldm.files import write_atomically
from hldm.images import to_unit
from hldm.model import LatentModel
from hldm.pipeline import controls
from hldm.pipeline.labelled_rows import Row, save_rows
from hldm.pipeline.samples import Drawn
from hldm.training import encode

COLUMNS = 10
"""Of a picture; more samples go into further rows."""
FRAMES = 9
"""Images on a path, both ends among them."""
FINE = 129
"""Points on a path whose length is measured."""
AT_ONCE = 2000
"""Training images that are encoded and compared at once."""
COINCIDE = 1e-6
"""A path that is longer than the geodesic by less than this share is the geodesic, but for rounding."""


@dataclass(frozen=True)
class View:
    """Rows of a picture, and the same as arrays.

    Attributes:
        rows: of the picture; none where images are vectors.
        caption: what is seen, in a sentence or two.
        arrays: name → numbers of an npz file; arr_0 are images (N, C, H, W), or vectors (N, D).
    """

    rows: Sequence[Row]
    caption: str
    arrays: dict[str, Tensor]


def with_radius(
    model: LatentModel,
    dataset: Dataset,
    drawn: Drawn,
    labels: Tensor | None,
    factors: Sequence[float],
    around: int | None,
    batch_size: int,
) -> View:
    """Samples as they were drawn, and moved to `factors` times their distance from the origin, or from a class's mean.

    Args:
        labels: int64 (N,), what was asked for; None where that was no label.
        around: the class whose Fréchet mean is the centre; None: the origin.
        batch_size: latents that are decoded at once.
    """
    manifold, v = model.autoencoder.manifold, drawn.v
    centre, name = None, "the origin"
    if around is not None:
        members, _ = class_latents(model, dataset, around)
        centre = controls.mean_latent(manifold, members)
        name = f"the Fréchet mean of class {dataset.class_names[around]} ({len(members)} training images)"
    m = torch.zeros_like(v[0]) if centre is None else centre
    far = controls.distances(manifold, m.unsqueeze(0), v)
    moved = {factor: controls.moved(manifold, v, factor, centre) for factor in factors}
    images = {
        # decoded in other batches, the same latents could differ in a last bit
        factor: drawn.images if factor == 1 else decoded(model, latents, batch_size)
        for factor, latents in moved.items()
    }
    kinds = [("as drawn", drawn.images, far)]
    for factor in factors:
        reached = controls.distances(manifold, m.unsqueeze(0), moved[factor])
        kinds.append((f"radius × {factor:g}", images[factor], reached))
    rows = [
        Row(label, own[block], [f"{d:.3g}" for d in distance[block].tolist()])
        for block in _blocks(len(v))
        for label, own, distance in kinds
    ]
    caption = (
        f"Latents moved along geodesics from {name}. Below each image its distance from there, "
        f"{float(far.median()):.3g} in the median as drawn."
    )
    arrays = {"arr_0": torch.cat(list(images.values()))}
    if labels is not None:
        arrays["arr_1"] = labels.repeat(len(factors))
    return View(rows if dataset.has_pictures else [], caption, arrays)


def between(model: LatentModel, dataset: Dataset, drawn: Drawn, labels: Tensor | None, a: int, b: int) -> View:
    """The geodesic between the samples numbered a and b, above the straight line in normal coordinates."""
    manifold, times = model.autoencoder.manifold, torch.linspace(0, 1, FRAMES, device=drawn.v.device)
    start, end = drawn.v[a], drawn.v[b]
    paths = {
        "geodesic": controls.geodesic_path(manifold, start, end, times),
        "straight line\nin the chart": controls.straight_path(start, end, times),
    }
    distance = float(controls.distances(manifold, start.unsqueeze(0), end.unsqueeze(0)))
    fine = torch.linspace(0, 1, FINE, device=times.device, dtype=torch.float64)
    straight = controls.straight_path(start.double(), end.double(), fine)
    longer = controls.path_length(manifold, straight) / distance - 1 if distance else 0.0
    if manifold.is_flat:
        compared = "Space is flat, where the geodesic is the straight line: the two rows coincide."
    elif longer < COINCIDE:
        compared = "Here the straight line is the geodesic: the two rows coincide."
    else:
        compared = f"The straight line is {100 * longer:.2g} % longer."
    images = {label: decoded(model, path, FRAMES) for label, path in paths.items()}
    first, last = (
        f"no. {end}" if labels is None else f"{dataset.class_names[labels[end]]}, no. {end}" for end in (a, b)
    )
    notes = [first, *(f"t = {t:.3g}" for t in times[1:-1].tolist()), last]
    rows = [Row(label, own, notes) for label, own in images.items()]
    caption = f"Between samples {a} and {b}, at distance {distance:.3g}, with constant speed. {compared}"
    arrays = {"arr_0": torch.cat(list(images.values()))}
    return View(rows if dataset.has_pictures else [], caption, arrays)


def class_mean(model: LatentModel, dataset: Dataset, label: int, n: int | None) -> View:
    """The decoded Fréchet mean of a class beside its n members that are nearest to it and the n farthest ones.

    Args:
        n: None: ten, or as many as there are.

    Raises:
        UserError: the class has fewer than n training images.
    """
    manifold = model.autoencoder.manifold
    members, indices = class_latents(model, dataset, label)
    n = min(COLUMNS, len(members)) if n is None else n
    if n > len(members):
        raise UserError(
            f"n={n} members of class {label} are asked for, and {dataset.name} has {len(members)} to train on. "
            f"Type n={len(members)} at most."
        )
    mean = controls.mean_latent(manifold, members)
    far = controls.distances(manifold, mean.unsqueeze(0), members)
    order = far.argsort(stable=True).cpu()
    image = decoded(model, mean.unsqueeze(0), 1)
    name = dataset.class_names[label]
    rows = [Row(f"Fréchet mean\nof {name}", image)] if dataset.has_pictures else []
    chosen = {"nearest\nmembers": order[:n], "farthest\nmembers": order[-n:]}
    shown = {kind: dataset.train.read(indices[places]).cpu() for kind, places in chosen.items()}
    if dataset.has_pictures:
        for kind, places in chosen.items():
            notes = [f"{d:.3g}" for d in far[places.to(far.device)].tolist()]
            rows += [Row(kind, shown[kind][block], notes[block]) for block in _blocks(n)]
    chart = controls.distances(manifold, mean.unsqueeze(0), members.double().mean(0, keepdim=True).to(mean.dtype))
    averaged = (
        "Space is flat, where it is the mean of coordinates."
        if manifold.is_flat
        else f"The mean of coordinates lies {float(chart):.2g} away from it."
    )
    caption = (
        f"The Fréchet mean of the latents of {len(members)} training images of class {name}, decoded. Below each "
        f"member its distance from it, {float(far.square().mean().sqrt()):.3g} in the root mean square. {averaged}"
    )
    arrays = {"arr_0": torch.cat([image, *shown.values()])}
    return View(rows, caption, arrays)


def beside_training(model: LatentModel, dataset: Dataset, drawn: Drawn, labels: Tensor | None, k: int) -> View:
    """Each sample above the k training images that are nearest to it in pixels, and those nearest in latents.

    Distances are Euclidean between pixels in [0, 1], and geodesic between a sample's latent and an image's latent (the
    mean of its posterior).
    """
    assert k <= len(dataset.train)  # see check_neighbours
    space = "pixels" if dataset.has_pictures else "data"
    found = {space: _nearest_pixels(dataset, drawn, k), "latents": _nearest_latents(model, dataset, drawn, k)}
    rows = []
    for block in _blocks(len(drawn.images)) if dataset.has_pictures else ():
        rows.append(Row("sample", drawn.images[block]))
        for kind, (distances, indices) in found.items():
            for place in range(k):
                which = indices[block, place].cpu()
                notes = [
                    f"{dataset.class_names[dataset.train.labels[i]]}, no. {i}\n{d:.3g}"
                    for i, d in zip(which.tolist(), distances[block, place].tolist(), strict=True)
                ]
                rows.append(Row(f"nearest\nin {kind}" if k == 1 else f"{place + 1}. nearest\nin {kind}",
                                dataset.train.read(which).cpu(), notes))  # fmt: skip
    geometry = "Euclidean" if model.autoencoder.manifold.is_flat else "geodesic"
    caption = (
        f"Samples above their nearest training images of {len(dataset.train)}: by Euclidean distance in {space}, and "
        f"by {geometry} distance between latents. Below each its class, its number and its distance."
    )
    arrays = {"arr_0": drawn.images} | ({} if labels is None else {"arr_1": labels})
    for kind, (distances, indices) in found.items():
        arrays |= {f"nearest_in_{kind}": indices.cpu(), f"distances_in_{kind}": distances.cpu()}
    return View(rows, caption, arrays)


@torch.no_grad()
def _nearest_pixels(dataset: Dataset, drawn: Drawn, k: int) -> tuple[Tensor, Tensor]:
    queries = to_unit(drawn.images).flatten(1)
    exact = "donot_use_mm_for_euclid_dist"  # copies have distance 0
    pixels = (to_unit(images.cpu()).flatten(1) for images in _training_images(dataset))
    return controls.nearest((torch.cdist(queries, part, compute_mode=exact) for part in pixels), k)


@torch.no_grad()
def _nearest_latents(model: LatentModel, dataset: Dataset, drawn: Drawn, k: int) -> tuple[Tensor, Tensor]:
    manifold = model.autoencoder.manifold
    latents = (encode(model, images).loc for images in _training_images(dataset))
    return controls.nearest((controls.pairwise_distances(manifold, drawn.v, part) for part in latents), k)


def _training_images(dataset: Dataset) -> Iterator[Tensor]:
    for indices in torch.arange(len(dataset.train)).split(AT_ONCE):
        yield dataset.train.read(indices)


def class_latents(model: LatentModel, dataset: Dataset, label: int) -> tuple[Tensor, Tensor]:
    """Posterior means (M, *latent shape) of all training images of a class, and their indices int64 (M,).

    Raises:
        UserError: it has no image to train on.
    """
    indices = (dataset.train.labels == label).nonzero().flatten()
    if not len(indices):
        raise UserError(f"Class {label} of {dataset.name} has no training image. Choose another class.")
    latents = [encode(model, dataset.train.read(part)).loc for part in indices.split(AT_ONCE)]
    return torch.cat(latents), indices


def save_view(path: Path, view: View, caption: str) -> None:
    """Write the arrays where the path ends in .npz, else the rows under this caption as PNG."""
    if path.suffix != ".npz":
        save_rows(path, view.rows, caption)
        return
    images = view.arrays["arr_0"]
    rows = images.permute(0, 2, 3, 1).contiguous() if images.ndim == 4 else images
    arrays = {name: array.numpy() for name, array in (view.arrays | {"arr_0": rows}).items()}

    def write(file: Path) -> None:
        with file.open("wb") as stream:  # given a name, numpy would append a second ending to it
            np.savez_compressed(stream, allow_pickle=False, **arrays)

    write_atomically(path, write)


def decoded(model: LatentModel, v: Tensor, batch_size: int) -> Tensor:
    """Images of latents v (N, *latent shape), on the CPU: uint8, or float32 vectors."""
    return torch.cat([model.images(part).cpu() for part in v.split(batch_size)])


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + COLUMNS) for start in range(0, n, COLUMNS)]
