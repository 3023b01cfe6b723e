"""Where the latents of a run lie, as a picture and as numbers: latents.png, latents.pdf and latents.json.

A plane is drawn as it is: the hyperbolic one as the Poincaré disk with circles at geodesic radii, the Euclidean one on
axes. Latents of more dimensions, and maps, are no disk: of them these are the first two principal components of the
normal coordinates, on flat axes. Nothing is scaled to the picture, so that latents twice as far apart look it.
"""

import json
import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from hldm.data import Dataset
from hldm.drawing import GREY, SEQUENCE, circles, distances, look, new_figure, nice, save, styled
from hldm.files import write_text_atomically
from hldm.geometry import Manifold, is_plane
from hldm.metrics import curvature_reach

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS = 400
"""In latents.json."""

MOST_NAMES = 20
"""In a legend."""

MANY_DOTS = 3000
"""More are one bitmap in a vector file."""


@dataclass(frozen=True)
class Colouring:
    """What the points are told apart by.

    Attributes:
        labels: int64 (N,), each in [0, len(names)).
        names: of the labels.
        is_depth: whether they are depths in a known tree.
    """

    labels: Tensor
    names: tuple[str, ...]
    is_depth: bool = False

    @classmethod
    def of(cls, dataset: Dataset, labels: Tensor, nodes: Tensor) -> "Colouring":
        """By depth where a tree is known and depths differ, by branch below its root where not, else by class."""
        if (depths := dataset.depths) is None:
            return cls(labels, dataset.class_names)
        depth = depths[nodes]
        if depth.min() < depth.max():
            return cls(depth, tuple(f"depth {i}" for i in range(int(depths.max()) + 1)), is_depth=True)
        branches, of_images = dataset.ancestors(1)[nodes].unique(return_inverse=True)
        if len(branches) == dataset.classes:
            return cls(labels, dataset.class_names)
        return cls(of_images, tuple(f"branch {i + 1}" for i in range(len(branches))))


@dataclass(frozen=True)
class View:
    """Latents in two dimensions.

    Attributes:
        kind: a hyperbolic plane, a Euclidean one, or principal components.
        c: minus the curvature, the largest of the factors; 0 where all is flat.
        points: float64 (N, 2). Of a plane normal coordinates, so that the length is the distance to the origin;
            otherwise components about their mean, in the units of normal coordinates.
        turn: float64 (2, 2), orthogonal: what planes were turned by, an isometry that keeps the origin.
        explained: the shares of the variance that two components have; None for a plane.
        sqrt_c_rms: see `curvature_reach`; None where all is flat.
    """

    kind: Literal["disk", "plane", "components"]
    c: float
    points: Tensor
    turn: Tensor
    explained: tuple[float, float] | None
    sqrt_c_rms: float | None

    @classmethod
    def of(cls, manifold: Manifold, v: Tensor, groups: Tensor) -> "View":
        """The view that all runs of a study share, as far as their latents allow it.

        A plane may be turned and a component may change its sign. We choose so that the mean of the first group lies
        to the right, and that of the second one above: on the first axis for a plane, as a component allows for others.

        Args:
            manifold: in which the latents lie, on the CPU.
            v: (N, C, *positions) normal coordinates.
            groups: int64 (N,), as the classes: alike in all runs on one data set. Negative ones count for none.
        """
        v = v.double()
        c = float(manifold.curvatures().max()) if manifold.channels else 0.0
        reach = curvature_reach(manifold, v)["sqrt_c_rms"] if c > 0 else None
        means = [v.flatten(1)[groups == group].mean(0) for group in groups[groups >= 0].unique()[:2]]
        if is_plane(manifold) and v.ndim == 2:
            turn = _turn(*means) if len(means) == 2 else torch.eye(2, dtype=v.dtype)
            return cls("disk" if c > 0 else "plane", c, v @ turn.T, turn, None, reach)
        points, explained = principal_components(v, means)
        return cls("components", c, points, torch.eye(2, dtype=v.dtype), explained, reach)

    def as_json(self, colouring: Colouring) -> dict[str, Any]:
        """At most `MOST_POINTS` of the points, evenly chosen, to 4 significant digits."""
        some = torch.linspace(0, len(self.points) - 1, min(MOST_POINTS, len(self.points))).round().long()
        return {
            "kind": self.kind,
            "curvature": self.c,
            "points": [[float(f"{x:.4g}") for x in point] for point in self.points[some].tolist()],
            "labels": colouring.labels[some].tolist(),
            "class_names": list(colouring.names),
            "explained": None if self.explained is None else [float(f"{share:.4g}") for share in self.explained],
            "sqrt_c_rms": None if self.sqrt_c_rms is None else float(f"{self.sqrt_c_rms:.4g}"),
            "parents": None,
        }


def _turn(first: Tensor, second: Tensor) -> Tensor:
    """The orthogonal map of the plane that takes `first` to the right, and then `second` to the upper half."""
    if not first.norm() > 0:
        return torch.eye(2, dtype=first.dtype)
    x, y = (first / first.norm()).tolist()
    turn = torch.tensor([[x, y], [-y, x]], dtype=first.dtype)
    if (turn @ second)[1] < 0:
        turn[1] *= -1
    return turn


def principal_components(v: Tensor, means: Sequence[Tensor] = ()) -> tuple[Tensor, tuple[float, float]]:
    """(N, …) → the first two components about their mean (N, 2), and the shares of the variance that they have.

    Args:
        means: (D,) each: component k has the sign with which the k-th of them is positive. Where there is none, or
            it is 0, the point that lies farthest is.
    """
    x = v.flatten(1)
    centre, total = x.mean(0), float((x - x.mean(0)).square().sum())
    x = x - centre
    # of the smaller of the two matrices of inner products, which have the same eigenvalues
    values, vectors = torch.linalg.eigh(x @ x.T if len(x) < x.shape[1] else x.T @ x)
    found = x.new_zeros(len(x), 2)
    explained = [0.0, 0.0]
    for k in range(min(2, len(values))):
        value, vector = values[-1 - k].clamp_min(0), vectors[:, -1 - k]
        # along the points or along the coordinates
        found[:, k] = vector * value.sqrt() if len(x) < x.shape[1] else x @ vector
        axis = x.T @ found[:, k]
        towards = float(axis @ (means[k] - centre)) if k < len(means) else 0.0
        if towards < 0 or (towards == 0 and float(found[found[:, k].abs().argmax(), k]) < 0):
            found[:, k] *= -1
        explained[k] = float(value) / total if total > 0 else 0.0
    return found, (explained[0], explained[1])


def write_latents(
    folder: Path, title: str, manifold: Manifold, v: Tensor, dataset: Dataset, labels: Tensor, nodes: Tensor
) -> None:
    """latents.png, latents.pdf and latents.json of a run.

    Args:
        title: what the latents are of.
        v: (N, C, *positions) normal coordinates.
        labels, nodes: int64 (N,), as `Split` has them.
    """
    manifold, v = deepcopy(manifold).cpu(), v.cpu()
    groups = labels
    if dataset.parents is not None:  # not the root, whose mean may lie at the origin
        branches = dataset.ancestors(1)[nodes]
        groups = torch.where(dataset.parents[branches] == branches, -1, branches)
    view, colouring = View.of(manifold, v, groups), Colouring.of(dataset, labels, nodes)
    tree = None
    if dataset.parents is not None and view.kind != "components":
        tree = tree_edges(manifold, v, nodes, dataset.parents)
    write_text_atomically(folder / "latents.json", json.dumps(view.as_json(colouring), ensure_ascii=False) + "\n")
    save_latents(folder / "latents.png", view, colouring, title, tree)


def save_latents(path: Path, view: View, colouring: Colouring, title: str, tree: Tensor | None = None) -> None:
    """Write the picture as PNG and PDF."""
    save(latents_figure(view, colouring, title, tree), path)


@styled()
def latents_figure(view: View, colouring: Colouring, title: str, tree: Tensor | None = None) -> "Figure":
    """The latents with a legend by name, or a colour bar by depth.

    Args:
        tree: (edges, T, 2) points of the plane along the edges of a tree, see `tree_edges`.
    """
    figure = new_figure(130, 110)
    axes = figure.add_subplot()
    points, furthest = view.points, float(view.points.norm(dim=1).max())
    unit = view.c**0.5 if view.kind == "disk" else 1.0
    if view.kind == "disk":
        points = _in_disk(points, view.c)
        axes.set(xlim=(-1.06, 1.06), ylim=(-1.06, 1.06), xlabel="√c · z₁", ylabel="√c · z₂")
        circles(axes, [(math.tanh(k / 2), f"r = {k / unit:.3g}") for k in (1, 2, 3)], boundary=1.0)
    elif view.kind == "plane":
        reach = nice(1.05 * furthest)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="v₁", ylabel="v₂")
        circles(axes, distances(furthest))
    else:
        reach = nice(1.05 * float(points.abs().max()))
        shares = [f"component {k} ({100 * share:.0f} % of variance)" for k, share in enumerate(view.explained or (), 1)]
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel=shares[0], ylabel=shares[1])
    if tree is not None:
        for edge in tree @ view.turn.T * unit:
            axes.plot(*edge.T.numpy(), color=GREY, linewidth=0.7, zorder=1)
            axes.plot(*edge[-1].numpy(), color=GREY, marker="o", markersize=2.5, zorder=1)
    _dots(axes, points, colouring)
    axes.set_aspect("equal")
    reach_of_c = "" if view.sqrt_c_rms is None else f"c = {view.c:.3g}, √c·rms = {view.sqrt_c_rms:.3g}"
    what = "two principal components, " if view.kind == "components" else ""
    axes.set_title("\n".join(part for part in (title, f"{what}{reach_of_c or 'flat'}") if part))
    return figure


def _dots(axes: "Axes", points: Tensor, colouring: Colouring) -> None:
    labels, names = colouring.labels, colouring.names
    x, y = points.numpy().T
    how: dict[str, Any] = {"s": 8, "alpha": 0.75, "linewidths": 0, "rasterized": len(points) > MANY_DOTS, "zorder": 2}
    if colouring.is_depth:
        from matplotlib import colormaps

        n = len(names)
        how |= {"c": labels.tolist(), "cmap": colormaps[SEQUENCE].resampled(n), "vmin": -0.5, "vmax": n - 0.5}
        dots = axes.scatter(x, y, **how)
        axes.figure.colorbar(dots, ax=axes, label="depth in the tree", ticks=range(n), shrink=0.7)
        return
    present = labels.unique().tolist()
    for i in present:
        own = (labels == i).numpy()
        axes.scatter(x[own], y[own], **{**how, **look(i), "label": names[i]})
    handles, words = axes.get_legend_handles_labels()
    more = len(present) - MOST_NAMES
    axes.legend(
        handles[:MOST_NAMES], words[:MOST_NAMES], loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0,
        markerscale=1.6, handletextpad=0.2, title=f"and {more} more" if more > 0 else None,
    )  # fmt: skip


def _in_disk(v: Tensor, c: float) -> Tensor:
    """Normal coordinates (N, 2) → √c · z in the unit disk, |z| = tanh(√c |v| / 2) / √c (Ganea et al. 2018, Lemma 2)."""
    length = v.norm(dim=1, keepdim=True).clamp_min(1e-300)
    return torch.tanh(c**0.5 * length / 2) * v / length


def tree_edges(manifold: Manifold, v: Tensor, nodes: Tensor, parents: Tensor) -> Tensor:
    """(nodes, 33, 2): the geodesics of a plane from each node's parent to the node, in the plane's own coordinates.

    A node stands at the Fréchet mean of its images, or, where it has none of its own, of those below it.

    Args:
        v: (N, 2) normal coordinates.
        nodes: int64 (N,).
        parents: int64 (nodes,), see `Dataset`.
    """
    manifold, v = manifold.double(), v.double()
    means = torch.stack([
        manifold.frechet_mean(own, torch.ones(len(own), dtype=own.dtype))
        for own in (v[_rows_of(node, nodes, parents)] for node in range(len(parents)))
    ])  # fmt: skip
    points = manifold.from_tangent(means)
    times = torch.linspace(0, 1, 33, dtype=v.dtype).view(1, -1, 1)
    paths, _ = manifold.geodesic(points[parents].unsqueeze(1), points.unsqueeze(1), times)
    return paths


def _rows_of(node: int, nodes: Tensor, parents: Tensor) -> Tensor:
    """bool (N,): the images of a node, or those below it where it has none of its own."""
    rows, at = nodes == node, nodes
    while not rows.any() and not torch.equal(at, parents[at]):
        at = parents[at]
        rows = at == node
    return rows
