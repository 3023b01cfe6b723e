"""Latent spaces: Euclidean, Poincaré balls, and products of them, behind one interface (`Manifold`).

Read `manifold` first (the interface), then `ops` (the ball's formulae in ball coordinates) and `normal` (in normal
coordinates). `analytic`, `elementary` and `forms` keep these formulae accurate near c = 0, and fast.
"""

from hldm.geometry.balls import BALL_DIM, RADIUS, clip_norm, largest_balls, within_radius
from hldm.geometry.curvature import Curvature, FixedCurvature, LearnableCurvature
from hldm.geometry.euclidean import Euclidean
from hldm.geometry.manifold import Leaf, Manifold
from hldm.geometry.packing import Packing, map_and_point, point_like
from hldm.geometry.poincare import PoincareBall
from hldm.geometry.product import ProductManifold, is_plane

__all__ = [
    "BALL_DIM",
    "RADIUS",
    "Curvature",
    "Euclidean",
    "FixedCurvature",
    "Leaf",
    "LearnableCurvature",
    "Manifold",
    "Packing",
    "PoincareBall",
    "ProductManifold",
    "clip_norm",
    "is_plane",
    "largest_balls",
    "map_and_point",
    "point_like",
    "within_radius",
]
