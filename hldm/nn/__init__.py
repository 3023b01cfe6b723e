"""Layers on manifolds. All of them take and return normal coordinates, and are Euclidean layers as c → 0."""

from hldm.nn.gyroplane import Gyroplane

__all__ = ["Gyroplane"]
