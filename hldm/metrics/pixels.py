"""Features that need no weights: what colours are where, and how much changes at each scale."""

import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor

from hldm.metrics.extractors import FeatureExtractor

PLACES, CORNERS = 4, 2
"""Colours are means over 4 × 4 places, changes over 2 × 2."""

WEIGHT = 8.0
"""Of changes, which in pictures are about that much smaller than colours: else no distance would notice them."""

LEAST_SIDE = 8
"""Pictures are halved down to this."""


class PixelFeatures(FeatureExtractor):
    """Statistics of pixels: for pictures of one's own, where no weights of a network are at hand.

        x_0 = image,   x_{k+1} = x_k in means over 2 × 2 pixels,   d_k = |x_k − x_{k+1} enlarged|

    Features are the means of x_0 over 4 × 4 places and 8 times those of every d_k over 2 × 2, of each channel: a
    Laplacian pyramid with a box for its filter (Burt & Adelson 1983). So a Fréchet distance in them sees layout,
    colour, blur and noise at each scale, and nothing of what a picture shows. D = C · (16 + 4 · levels), 84 of 32 × 32
    in colour; no logits.
    """

    name = "pixels"
    accuracy: float | None = None
    preprocessing = "means of [0, 1] over 4 × 4 places, 8 times mean changes over 2 × 2 at each scale down to 8 pixels"
    sha256 = hashlib.sha256(preprocessing.encode()).hexdigest()  # there are no weights: of what is computed

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = images.float() / 255
        found = [F.adaptive_avg_pool2d(x, PLACES)]
        while min(x.shape[2:]) >= LEAST_SIDE:
            height, width = (side - side % 2 for side in x.shape[2:])
            x = x[..., :height, :width]
            reduced = F.avg_pool2d(x, 2)
            changes = (x - F.interpolate(reduced, scale_factor=2.0)).abs()
            found.append(WEIGHT * F.adaptive_avg_pool2d(changes, CORNERS))
            x = reduced
        features = torch.cat([part.flatten(1) for part in found], dim=1)
        return features, features[:, :0]
