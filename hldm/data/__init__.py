"""Data sets: a description of the classes, and three splits that are read by indices."""

from hldm.data.branching import branching
from hldm.data.dataset import Dataset, InMemorySplit, Split
from hldm.data.idx import mnist

__all__ = ["Dataset", "InMemorySplit", "Split", "branching", "mnist"]
