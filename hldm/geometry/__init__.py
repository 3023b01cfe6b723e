"""Latent spaces: Euclidean, Poincaré balls, and products of them, behind one interface (`Manifold`)."""

from hldm.geometry.curvature import Curvature, FixedCurvature, LearnableCurvature
from hldm.geometry.euclidean import Euclidean
from hldm.geometry.manifold import Manifold
from hldm.geometry.packing import Packing, map_and_point, point_like
from hldm.geometry.poincare import PoincareBall
from hldm.geometry.product import ProductManifold, is_plane

__all__ = [
    "Curvature",
    "Euclidean",
    "FixedCurvature",
    "LearnableCurvature",
    "Manifold",
    "Packing",
    "PoincareBall",
    "ProductManifold",
    "is_plane",
    "map_and_point",
    "point_like",
]
