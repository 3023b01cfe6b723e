"""Data sets: a description of the classes, and three splits that are read by indices."""

from hldm.data.branching import branching
from hldm.data.cifar import cifar10, cifar100
from hldm.data.dataset import Dataset, InMemorySplit, Split
from hldm.data.folder import folder
from hldm.data.huggingface import huggingface
from hldm.data.idx import mnist
from hldm.data.idx_archives import emnist, fashion_mnist, kmnist
from hldm.data.lsun import lsun
from hldm.data.omniglot import omniglot
from hldm.data.tree_images import tree_images

__all__ = [
    "Dataset",
    "InMemorySplit",
    "Split",
    "branching",
    "cifar10",
    "cifar100",
    "emnist",
    "fashion_mnist",
    "folder",
    "huggingface",
    "kmnist",
    "lsun",
    "mnist",
    "omniglot",
    "tree_images",
]
