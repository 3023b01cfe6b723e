"""Data sets, held in memory as tensors."""

from hldm.data.branching import branching
from hldm.data.dataset import Dataset
from hldm.data.idx import mnist

__all__ = ["Dataset", "branching", "mnist"]
