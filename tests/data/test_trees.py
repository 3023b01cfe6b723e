"""Trees as parents: depths and ancestors, beside networkx."""

import networkx
import pytest
import torch

from hldm.data.trees import ancestors, complete_tree, depths


def test_a_complete_tree_is_breadth_first() -> None:
    assert complete_tree(2, 3).tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert complete_tree(2, 1).tolist() == [0, 0, 1]
    assert complete_tree(0, 2).tolist() == [0]


@pytest.mark.parametrize("seed", range(5))
def test_depths_and_ancestors_are_those_of_the_graph(seed: int) -> None:
    """Of random trees whose nodes are in no order."""
    graph = networkx.random_labeled_tree(30, seed=seed)
    root = seed
    above = networkx.predecessor(graph, root)
    parents = torch.tensor([above[node][0] if above[node] else node for node in range(30)])
    paths = networkx.single_source_shortest_path(graph, root)
    assert depths(parents).tolist() == [len(paths[node]) - 1 for node in range(30)]
    for level in range(8):
        assert ancestors(parents, level).tolist() == [paths[node][: level + 1][-1] for node in range(30)]
