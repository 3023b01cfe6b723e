"""Data sets, held in memory as uint8 tensors."""

from hldm.data.dataset import Dataset
from hldm.data.idx import mnist

__all__ = ["Dataset", "mnist"]
