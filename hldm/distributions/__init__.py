"""Distributions on manifolds: the wrapped normal and the Riemannian normal, with low-variance KL."""

from hldm.distributions.base import Draw, ManifoldDistribution
from hldm.distributions.riemannian import RiemannianNormal
from hldm.distributions.wrapped import WrappedNormal

__all__ = ["Draw", "ManifoldDistribution", "RiemannianNormal", "WrappedNormal"]
