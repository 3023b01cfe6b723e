"""What one latent is made of: a map of points, one point, or both in one vector.

Legend: a map (B, C, h, w) holds P = h·w points of a manifold with C channels; one point is (B, n); both lie packed in
(B, P·C + n). `v` are normal coordinates, with the coordinates of a point, or the packed ones, along axis 1.
"""

import math

import torch
from torch import Tensor

from hldm.config.autoencoder import Layout
from hldm.geometry import Manifold, Packing, map_and_point


class LatentLayout:
    """Shapes and parts of a latent, where each part lives, and the scale that diffusion gives to each.

    Build one with `of_map`, `of_point` or `of_both`.

    Attributes:
        kind: a map, a point, or both.
        manifold: of the coordinates along axis 1 of a latent: of one point of a map, or of all packed coordinates.
        shape: of one latent, (C, h, w), (n,) or (P·C + n,).
        parts: the layouts of what diffusion scales separately: map and point where a latent is both, else itself alone.
    """

    def __init__(
        self,
        kind: Layout,
        manifold: Manifold,
        shape: tuple[int, ...],
        parts: tuple["LatentLayout", "LatentLayout"] | None = None,
    ) -> None:
        self.kind, self.manifold, self.shape = kind, manifold, shape
        self.parts: tuple[LatentLayout, ...] = (self,)
        self._packing: Packing | None = None
        if parts is not None:
            self.parts = parts
            of_map, of_point = parts
            self._packing = Packing(of_map.manifold, of_map.sides, of_point.manifold.channels)

    @classmethod
    def of_map(cls, manifold: Manifold, sides: tuple[int, int]) -> "LatentLayout":
        """A point of `manifold` at each of h × w positions."""
        return cls(Layout.MAP, manifold, (manifold.channels, *sides))

    @classmethod
    def of_point(cls, manifold: Manifold) -> "LatentLayout":
        """One point of `manifold`."""
        return cls(Layout.POINT, manifold, (manifold.channels,))

    @classmethod
    def of_both(cls, map_manifold: Manifold, sides: tuple[int, int], point_manifold: Manifold) -> "LatentLayout":
        """A map of points of one manifold beside one point of another, in the product of them all."""
        both = map_and_point(map_manifold, sides, point_manifold)
        parts = cls.of_map(map_manifold, sides), cls.of_point(point_manifold)
        return cls(Layout.BOTH, both, (both.channels,), parts)

    @property
    def sides(self) -> tuple[int, int]:
        """(h, w) of a map."""
        _, height, width = self.shape
        return height, width

    @property
    def dimension(self) -> int:
        """Numbers in one latent."""
        return math.prod(self.shape)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Coordinates, along axis 1 of a latent, of each part."""
        return self.shape[:1] if self._packing is None else self._packing.parts

    def pack(self, of_map: Tensor, of_point: Tensor) -> Tensor:
        """(B, C, h, w) and (B, n) → (B, P·C + n), where a latent is both."""
        assert self._packing is not None
        return self._packing.pack(of_map, of_point)

    def unpack(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P·C + n) → (B, C, h, w) and (B, n), the inverse of `pack`."""
        assert self._packing is not None
        return self._packing.unpack(v)

    def factors(self, v: Tensor) -> list[tuple[Manifold, Tensor]]:
        """Where each part lives, as it lies along axis 1, and these parts of v.

        Hierarchy is looked for in the last one: the point where there is one beside a map.
        """
        if self._packing is None:
            return [(self.manifold, v)]
        return list(zip(self.manifold.direct_factors(), v.split(self.sizes, 1), strict=True))

    # ------------------------------------------------------------------------------------------------------ the scale

    def unit_scale(self) -> Tensor:
        """A scale of 1: of shape (), or (2,) where a latent has two parts."""
        return torch.ones(() if len(self.parts) == 1 else len(self.parts))

    def fitted_scale(self, v: Tensor) -> Tensor:
        """Root mean square of each part of latents v (N, *shape), shaped like `unit_scale`.

        Stable Diffusion divides by the standard deviation. Here it is the root mean square, because on a ball the mean
        cannot be subtracted: rescaling keeps only the origin in place.
        """
        scales = torch.stack([part.square().mean().sqrt() for part in v.split(self.sizes, 1)])
        return scales.view_as(self.unit_scale())

    def per_coordinate(self, scale: Tensor) -> Tensor:
        """A scale as it multiplies latents: of shape (), or (P·C + n,) where they have two parts."""
        if not scale.ndim:
            return scale
        return torch.cat([own.expand(size) for own, size in zip(scale, self.sizes, strict=True)])

    def rescaled(self, scale: Tensor) -> Manifold:
        """Where latents divided by the scale live: v → v / s needs curvature c → c·s², part by part."""
        return self.manifold.rescaled(scale)
