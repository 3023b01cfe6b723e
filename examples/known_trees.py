"""The data sets whose tree is known, drawn: a tree of pictures level by level, and Omniglot alphabet by alphabet.

    python examples/known_trees.py [folder for the pictures] [folder with Omniglot's archives]

docs/data.md shows them. Without the archives there is the first picture alone.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from hldm.config.dataset import Omniglot, TreeImages
from hldm.data import Dataset, omniglot, tree_images
from hldm.pipeline.pictures import save_grid


def tree_picture(data: Dataset, siblings: int = 3) -> tuple[Tensor, int]:
    """A row of images per level, each node over its children, and more siblings of the last level; and the columns."""
    depths = data.depths
    assert depths is not None
    columns = int(depths.bincount().max())
    rows = []
    for level in range(int(depths.max()) + 1):
        nodes = (depths == level).nonzero().flatten().tolist()
        width = columns // len(nodes)  # of a node with all below it
        for sibling in range(siblings if width == 1 else 1):
            row = torch.zeros(columns, *data.image_shape, dtype=torch.uint8)
            for place, node in enumerate(nodes):
                own = (data.train.nodes == node).nonzero().flatten()
                row[place * width + width // 2] = data.train.read(own[sibling : sibling + 1])[0]
            rows.append(row)
    return torch.cat(rows), columns


def class_rows(data: Dataset, columns: int = 20) -> Tensor:
    """The first training images of every class, a row each."""
    rows = [(data.train.labels == label).nonzero().flatten()[:columns] for label in range(data.classes)]
    return data.train.read(torch.cat(rows))


def main(folder: Path, archives: str | None = None) -> None:
    """Write tree_images.png, and omniglot.png where there are archives."""
    images, columns = tree_picture(tree_images(TreeImages()))
    save_grid(folder / "tree_images.png", images, columns)
    if archives is not None:
        save_grid(folder / "omniglot.png", class_rows(omniglot(Omniglot(folder=archives))), columns=20)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."), *sys.argv[2:3])
