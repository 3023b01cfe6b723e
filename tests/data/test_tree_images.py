"""Pictures that branch: the tree that they say they have is in the pixels."""

import networkx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from hldm.config.dataset import TreeImages
from hldm.data import Dataset, tree_images
from hldm.data.tree_images import bump_basis, smooth_fields

SMALL = {"depth": 3, "siblings": 20}


def made(**settings: float | None) -> Dataset:
    return tree_images(TreeImages.model_validate(settings))


@pytest.fixture(scope="module")
def tree() -> Dataset:
    return made()


def mean_images(data: Dataset) -> torch.Tensor:
    images = data.train.first().double() / 255
    return torch.stack([images[data.train.nodes == node].mean(0).flatten() for node in range(len(data.parents))])


def test_the_usual_size(tree: Dataset) -> None:
    assert tree.image_shape == (1, 28, 28)
    assert tree.classes == 31
    assert tree.depths.bincount().tolist() == [1, 2, 4, 8, 16]
    for split, siblings in ((tree.train, 280), (tree.validation, 40), (tree.test, 80)):
        assert split.first(3).dtype == torch.uint8
        assert split.nodes.bincount().tolist() == [siblings] * 31
        assert torch.equal(split.labels, split.nodes)
        assert torch.equal(split.groups, split.nodes)
        assert len(split.labels[:200].unique()) == 31  # the first ones stand for all
    section = TreeImages()
    assert (section.training_images, section.test_images) == (len(tree.train), len(tree.test))


def test_the_content_stays_as_it_is(tree: Dataset) -> None:
    assert tree.fingerprint == "24a3a42e859e1ec9ba64d7a79269dee10e3b39af92ff334e281071799fc61b08"


def test_distances_in_pixels_follow_the_tree(tree: Dataset) -> None:
    means = mean_images(tree)
    dist = torch.cdist(means, means)
    # independent steps: their squares add up along the way from node to node
    edges = [(node, parent, 0.7 ** (2 * int(tree.depths[node]))) for node, parent in enumerate(tree.parents.tolist())]
    graph = networkx.Graph()
    graph.add_weighted_edges_from(edges[1:])
    between = dict(networkx.all_pairs_dijkstra_path_length(graph))
    squares = torch.tensor([[between[a][b] for b in range(31)] for a in range(31)])
    pairs = torch.triu_indices(31, 31, offset=1).unbind()
    assert spearmanr(squares[pairs], dist[pairs]).statistic > 0.75
    # of two leaves, the deeper they part, the nearer they are
    leaves = range(15, 31)
    parting = networkx.DiGraph([(parent, node) for node, parent in enumerate(tree.parents.tolist()) if node])
    depth = {(a, b): int(tree.depths[networkx.lowest_common_ancestor(parting, a, b)]) for a in leaves for b in leaves}
    by_depth = [torch.stack([dist[a, b] for (a, b), at in depth.items() if at == k]).mean() for k in range(4)]
    assert by_depth == sorted(by_depth, reverse=True)
    # and siblings are nearer to their own node than to any other
    images = tree.test.first().double().flatten(1) / 255
    assert (torch.cdist(images, means).argmin(1) == tree.test.nodes).double().mean() > 0.9


def test_labels_are_the_nodes_of_a_level() -> None:
    data, coarse = made(**SMALL), made(**SMALL, label_level=1)
    assert coarse.class_names == ("root", "0", "1")
    assert coarse.class_words == ("root", "branch 0", "branch 1")
    assert data.class_names[7:9] == ("0.0.0", "0.0.1")
    for ours, theirs in zip((coarse.train, coarse.test), (data.train, data.test), strict=True):
        assert torch.equal(ours.first(), theirs.first())
        assert torch.equal(ours.nodes, theirs.nodes)
        assert torch.equal(ours.labels, data.ancestors(1)[theirs.nodes])
    assert made(**SMALL, label_level=3).fingerprint == data.fingerprint
    assert TreeImages(depth=3, label_level=3).delta() == TreeImages(depth=3).delta()


def test_every_setting_of_the_pictures_counts() -> None:
    settings = ({}, {"noise": 0.3}, {"shrink": 0.6}, {"smoothness": 5.0}, {"seed": 1}, {"children": 3})
    assert len({made(**(SMALL | other)).fingerprint for other in settings}) == len(settings)
    assert made(**SMALL).fingerprint == made(**SMALL).fingerprint
    still = made(**SMALL, noise=0.0)
    images = still.train.first()
    for node in range(15):
        own = images[still.train.nodes == node]
        assert (own == own[0]).all()


def test_shares_move_images_between_splits_and_change_none() -> None:
    def rows(data: Dataset) -> list[bytes]:
        images = torch.cat([split.first() for split in (data.train, data.validation, data.test)])
        return sorted(image.numpy().tobytes() for image in images)

    few, many = made(**SMALL), made(**SMALL, test_share=0.4, validation_share=0.3)
    assert [len(split) for split in (many.train, many.validation, many.test)] == [15 * 6, 15 * 6, 15 * 8]
    assert rows(few) == rows(many)


@given(
    st.integers(3, 60),
    st.floats(0.01, 0.499),
    st.floats(0.01, 0.499),
)
def test_each_split_has_every_node(siblings: int, validation: float, test: float) -> None:
    section = TreeImages(siblings=siblings, validation_share=validation, test_share=test)
    assert min(section.split_siblings) >= 1
    assert sum(section.split_siblings) == siblings


@pytest.mark.parametrize("smoothness", [1.0, 4.0, 28.0])
def test_a_field_has_variance_one_everywhere_and_the_stated_width(smoothness: float) -> None:
    bumps = bump_basis(smoothness)
    torch.testing.assert_close((bumps @ bumps.T).diagonal(), torch.ones(28, dtype=torch.float64))
    # bumps of width s a distance d apart correlate by exp(−d²/4s²), and so do pixels, nearly, wherever they are
    distance = torch.arange(28, dtype=torch.float64)
    expected = torch.exp(-((distance.unsqueeze(1) - distance) ** 2) / (4 * smoothness**2))
    torch.testing.assert_close(bumps @ bumps.T, expected, rtol=0, atol=0.02)
    fields = smooth_fields(4000, bumps, torch.Generator().manual_seed(0))
    torch.testing.assert_close(fields.var(0).mean().item(), 1.0, rtol=0.05, atol=0)


def test_a_tree_of_one_node() -> None:
    data = made(depth=0, siblings=3)
    assert (data.class_names, [len(s) for s in (data.train, data.validation, data.test)]) == (("root",), [1, 1, 1])
