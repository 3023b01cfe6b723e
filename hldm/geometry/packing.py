"""A map of points beside one more point, as one vector.

Legend: a map (B, C, h, w) of points of a manifold with C channels, at P = h·w positions; a point (B, n); packed
(B, P·C + n).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hldm.geometry.euclidean import Euclidean
from hldm.geometry.manifold import Manifold
from hldm.geometry.product import ProductManifold


class Packing:
    """The layout of the vector: the map as `Manifold.repeated` orders it, then the point.

    So a packed latent is a point of `map_and_point` of the same manifolds.

    Args:
        map_manifold: of one point of the map.
        sides: (h, w).
        point_channels: n ≥ 0.

    Attributes:
        map_shape: (C, h, w).
        parts: (P·C, n), coordinates of the map and of the point.
    """

    def __init__(self, map_manifold: Manifold, sides: tuple[int, int], point_channels: int) -> None:
        self.factors = [leaf.channels for leaf in map_manifold.leaves()]
        self.map_shape = (map_manifold.channels, *sides)
        self.point_channels = point_channels
        self.positions = math.prod(sides)
        self.parts = (self.positions * map_manifold.channels, point_channels)

    def pack(self, of_map: Float[Tensor, "B C h w"], of_point: Float[Tensor, "B n"]) -> Float[Tensor, "B D"]:
        """(B, C, h, w) and (B, n) → (B, P·C + n)."""
        factors = of_map.flatten(2).transpose(1, 2).split(self.factors, 2)
        return torch.cat([*(factor.flatten(1) for factor in factors), of_point], 1)

    def unpack(self, packed: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, "B n"]]:
        """(B, P·C + n) → (B, C, h, w) and (B, n)."""
        *factors, of_point = packed.split([*(self.positions * n for n in self.factors), self.point_channels], 1)
        of_map = torch.cat([factor.unflatten(1, (self.positions, -1)) for factor in factors], 2)
        return of_map.transpose(1, 2).unflatten(2, self.map_shape[1:]).contiguous(), of_point


def point_like(manifold: Manifold, channels: int) -> Manifold:
    """One ball with so many channels and the curvature of the manifold's first curved ball; R^n where all is flat."""
    curved = [leaf for leaf in manifold.leaves() if not leaf.is_flat]
    return curved[0].like(channels) if curved else Euclidean(channels)


def map_and_point(map_manifold: Manifold, sides: tuple[int, int], point_manifold: Manifold) -> ProductManifold:
    """Where packed latents live: the map is the first factor, the point the second."""
    return ProductManifold([map_manifold.repeated(math.prod(sides)), point_manifold])
