"""Latents are drawn where they are: planes as planes, edges of a tree along geodesics, others by two components."""

import json

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.patches import Circle

from hldm.data import Dataset, InMemorySplit
from hldm.data.trees import complete_tree
from hldm.drawing import PALETTE
from hldm.geometry import Euclidean, FixedCurvature, PoincareBall, ProductManifold
from hldm.metrics import curvature_reach
from hldm.pipeline.latent_picture import (
    Colouring,
    View,
    latents_figure,
    principal_components,
    save_latents,
    tree_edges,
    write_latents,
)

BALL = PoincareBall(2, FixedCurvature(2.0))
HYBRID = ProductManifold([Euclidean(1), PoincareBall(3, FixedCurvature(0.5))])
PLACES = torch.tensor([[0.6, 0.0], [0.0, 0.6], [-0.5, -0.5]], dtype=torch.float64)
"""A point of each of three classes in the unit disk."""


def data(labels, names=10, nodes=None, parents=None):
    split = InMemorySplit(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), labels, nodes)
    classes = tuple(f"class {i}" for i in range(names))
    return Dataset("toy", (1, 2, 2), classes, train=split, validation=split, test=split, parents=parents)


def clouds(*shape, n=60, classes=3):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    centres = 2 * torch.randn(classes, *shape, generator=generator)
    return centres[labels] + 0.3 * torch.randn(n, *shape, generator=generator), labels


def dots(figure):
    """Class → (N, 2), where its dots are, with its colour and its name."""
    return {
        one.get_label(): (np.asarray(one.get_offsets()), tuple(one.get_facecolor()[0][:3]))
        for one in figure.axes[0].collections
        if isinstance(one, PathCollection)
    }


def circles(figure):
    radii = [patch.radius for patch in figure.axes[0].patches if isinstance(patch, Circle)]
    return dict(zip([text.get_text() for text in figure.axes[0].texts], radii, strict=True))


def test_a_disk_has_its_points_at_their_true_radii():
    """What stands on a circle is the distance to the origin, its radius is that of the ball times √c."""
    v = BALL.to_tangent(PLACES / 2**0.5)
    labels = torch.arange(3)
    figure = latents_figure(View.of(BALL, v, labels), Colouring(labels, ("a", "b", "c")), "Latents")
    [axes] = figure.axes
    found = dots(figure)
    assert list(found) == ["a", "b", "c"]
    for (point, colour), place, expected in zip(found.values(), PLACES, PALETTE, strict=False):
        np.testing.assert_allclose(point[0], place, atol=1e-12)
        np.testing.assert_allclose(colour, [int(expected[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    rings = circles(figure)
    assert rings.pop("unit circle: infinitely far") == 1
    for words, radius in rings.items():
        assert radius == pytest.approx(np.tanh(2**0.5 * float(words.removeprefix("r = ")) / 2), rel=2e-3)
    assert (axes.get_xlim(), axes.get_xlabel()) == ((-1.06, 1.06), "√c · z₁")
    reach = curvature_reach(BALL, v)["sqrt_c_rms"]
    assert axes.get_title() == f"Latents\nc = 2, √c·rms = {reach:.3g}"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "c"]


def test_a_flat_plane_has_axes_in_units_of_distance_and_no_boundary():
    labels = torch.arange(3)
    view = View.of(Euclidean(2), 10 * PLACES, labels)
    figure = latents_figure(view, Colouring(labels, ("a", "b", "c")), "Latents")
    assert figure.axes[0].get_xlim() == (-10, 10)  # the furthest lies at 7.07
    assert circles(figure) == {"r = 3": 3, "r = 6": 6, "r = 9": 9}
    np.testing.assert_allclose(np.concatenate([place for place, _ in dots(figure).values()]), 10 * PLACES, atol=1e-12)
    assert figure.axes[0].get_title() == "Latents\nflat"


@pytest.mark.parametrize(
    ("manifold", "shape"),
    [(Euclidean(2), (2,)), (BALL, (2,)), (BALL, (2, 2, 2)), (PoincareBall(4, FixedCurvature(1.0)), (4,))],
)
def test_latents_that_are_a_hundred_times_nearer_look_it(tmp_path, manifold, shape):
    v, labels = clouds(*shape)
    colouring = Colouring(labels, ("a", "b", "c"))
    for name, scale in (("far", 1.0), ("near", 0.01), ("again", 1.0)):
        save_latents(tmp_path / f"{name}.png", View.of(manifold, scale * v, labels), colouring, "Latents")
    for ending in ("png", "pdf"):
        far, near, again = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("far", "near", "again"))
        assert far != near
        assert far == again
    far, near = (View.of(manifold, scale * v, labels).points for scale in (1.0, 0.01))
    torch.testing.assert_close(far, 100 * near)


@pytest.mark.parametrize("shape", [(4,), (4, 3, 3), (4, 10, 10)])
@pytest.mark.parametrize(
    "manifold", [Euclidean(4), ProductManifold([Euclidean(1), PoincareBall(3, FixedCurvature(0.5))])]
)
def test_more_dimensions_are_two_components_on_flat_axes(manifold, shape):
    """Against the singular value decomposition; the last shape has more coordinates than there are points."""
    v, labels = clouds(*shape)
    view = View.of(manifold, v, labels)
    x = v.double().flatten(1)
    x = x - x.mean(0)
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    torch.testing.assert_close(view.points.abs(), (u[:, :2] * s[:2]).abs())
    assert view.kind == "components"
    assert view.explained == pytest.approx((s[:2].square() / s.square().sum()).tolist())
    assert (view.sqrt_c_rms is None) == (view.c == 0)
    figure = latents_figure(view, Colouring(labels, ("a", "b", "c")), "Latents")
    [axes] = figure.axes
    assert circles(figure) == {}
    assert axes.get_xlabel() == f"component 1 ({100 * view.explained[0]:.0f} % of variance)"
    assert axes.get_ylabel().startswith("component 2 (")
    assert "two principal components" in axes.get_title()


@pytest.mark.parametrize("shape", [(2,), (3,), (2, 3, 3)])
def test_runs_of_a_study_have_one_orientation(shape):
    """However an encoder happens to turn its latents, the first class lies to the right and the second above."""
    v, labels = clouds(*shape)
    turned = torch.linalg.qr(torch.randn(v[0].numel(), v[0].numel(), generator=torch.Generator().manual_seed(1)))[0]
    other = (v.flatten(1) @ turned.T).view(v.shape)
    one, two = (View.of(Euclidean(shape[0]), latents, labels).points for latents in (v, other))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
    assert one[labels == 0].mean(0)[0] > 0
    assert one[labels == 1].mean(0)[1] > 0


def test_degenerate_latents_have_a_picture(tmp_path):
    for manifold, v in (
        (Euclidean(3), torch.zeros(5, 3)),
        (Euclidean(1), torch.randn(5, 1)),
        (BALL, torch.zeros(5, 2)),
    ):
        view = View.of(manifold, v, torch.zeros(5, dtype=torch.long))
        save_latents(tmp_path / "a.png", view, Colouring(torch.zeros(5, dtype=torch.long), ("a",)), "Latents")
        assert torch.isfinite(view.points).all()
    assert principal_components(torch.zeros(5, 3))[1] == (0.0, 0.0)


def test_edges_are_geodesics():
    parents = torch.tensor([0, 0, 0])
    z = PLACES / 2**0.5
    edges = tree_edges(BALL, BALL.to_tangent(z), torch.arange(3), parents)
    middle = BALL.geodesic(z[0], z[1], torch.tensor(0.5, dtype=torch.float64))[0]
    torch.testing.assert_close(edges[1, 16], middle)
    assert middle.max() * 2**0.5 < 0.25  # bent towards the centre
    view = View.of(BALL, BALL.to_tangent(z), torch.tensor([1, 2, -1]))
    figure = latents_figure(view, Colouring(torch.arange(3), ("a", "b", "c")), "Latents", edges)
    lines = [line.get_xydata() for line in figure.axes[0].lines if len(line.get_xydata()) > 1]
    np.testing.assert_allclose(lines[2][-1], dots(figure)["c"][0][0], atol=1e-9)  # turned with the points


def test_flat_trees_have_straight_edges():
    edges = tree_edges(Euclidean(2), PLACES, torch.arange(3), torch.tensor([0, 0, 0]))
    torch.testing.assert_close(edges[1, 16], (PLACES[0] + PLACES[1]) / 2)


def test_a_tree_is_coloured_by_depth_with_a_bar():
    parents = complete_tree(2, 2)
    nodes = torch.arange(7).repeat_interleave(4)
    colouring = Colouring.of(data(nodes, 7, nodes, parents), nodes, nodes)
    assert colouring.is_depth
    assert colouring.names == ("depth 0", "depth 1", "depth 2")
    v = torch.randn(28, 2, generator=torch.Generator().manual_seed(0))
    figure = latents_figure(View.of(BALL, v, nodes), colouring, "Latents")
    axes, bar = figure.axes
    assert bar.get_ylabel() == "depth in the tree"
    assert [text.get_text() for text in bar.get_yticklabels()] == ["0", "1", "2"]
    assert axes.get_legend() is None


def test_leaves_of_a_tree_are_coloured_by_branch():
    parents = complete_tree(2, 2)
    nodes = torch.tensor([3, 4, 5, 6] * 5)
    branches = Colouring.of(data(nodes, 7, nodes, parents), nodes, nodes)
    assert (branches.names, branches.labels[:4].tolist()) == (("branch 1", "branch 2"), [0, 0, 1, 1])
    labels = parents[nodes] - 1  # the classes are the branches
    assert Colouring.of(data(labels, 2, nodes, parents), labels, nodes).names == ("class 0", "class 1")


def test_many_classes_have_a_short_legend():
    labels = torch.arange(50)
    v = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    figure = latents_figure(View.of(BALL, v, labels), Colouring(labels, tuple(map(str, range(50)))), "Latents")
    legend = figure.axes[0].get_legend()
    assert len(legend.get_texts()) == 20
    assert legend.get_title().get_text() == "and 30 more"


@pytest.mark.parametrize("kind", ["disk", "plane", "components"])
def test_the_numbers_of_the_picture(tmp_path, kind):
    manifold = {"disk": BALL, "plane": Euclidean(2), "components": PoincareBall(3, FixedCurvature(2.0))}[kind]
    v, labels = clouds(manifold.channels, n=900)
    write_latents(tmp_path, "Latents", manifold, 1e-5 * v, data(labels, 3), labels, labels)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latents.json", "latents.pdf", "latents.png"]
    content = json.loads((tmp_path / "latents.json").read_text(encoding="utf-8"))
    assert list(content) == [
        "kind", "curvature", "points", "labels", "class_names", "explained", "sqrt_c_rms", "parents"
    ]  # fmt: skip
    assert (content["kind"], content["curvature"], content["parents"]) == (kind, 0.0 if kind == "plane" else 2.0, None)
    assert len(content["points"]) == len(content["labels"]) == 400
    assert content["class_names"] == ["class 0", "class 1", "class 2"]
    assert (content["explained"] is None) == (kind != "components")
    assert (content["sqrt_c_rms"] is None) == (kind == "plane")
    some = torch.linspace(0, 899, 400).round().long()
    assert content["labels"] == labels[some].tolist()
    if kind != "components":  # the length is the distance to the origin
        lengths = torch.tensor(content["points"], dtype=torch.float64).norm(dim=1)
        origin = manifold.from_tangent(torch.zeros(1, 2, dtype=torch.float64))
        distances = manifold.dist(manifold.from_tangent(1e-5 * v[some].double()), origin)
        torch.testing.assert_close(lengths, distances, rtol=2e-3, atol=0)
