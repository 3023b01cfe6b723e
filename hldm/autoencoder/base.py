"""What the platform asks of an autoencoder, whatever its bottleneck.

Legend: images (B, *image shape), in [0, 1] or, where the likelihood is normal, any numbers; `v` normal coordinates of
latents, (B, *latent shape), with the coordinates of a point along axis 1; `z` the points themselves.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from hldm.geometry import Manifold, Packing


class Autoencoder(nn.Module, ABC):
    """Image → point on the manifold → image.

    Diffusion sees what `draw` makes of what `encode` finds, and `decode` takes what diffusion makes.

    Args:
        manifold: where the latents live.
        image_shape: of one image.
        latent_shape: of one latent: its channels, then its positions where it is a map.
    """

    packing: Packing | None = None
    """How a latent that is a map beside a point lies in its vector; None where it is one or the other."""

    likelihood: Literal["bernoulli", "normal"] = "bernoulli"
    """Bernoulli on grey levels, or normal with unit variance."""

    def __init__(self, manifold: Manifold, image_shape: tuple[int, ...], latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.manifold = manifold
        self.image_shape = tuple(image_shape)
        self.latent_shape = tuple(latent_shape)

    @abstractmethod
    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """What the encoder says of the latents, each shaped like them: first where they are, in normal coordinates."""

    @abstractmethod
    def draw(self, encoded: tuple[Tensor, ...], generator: Generator) -> Tensor:
        """Normal coordinates of one latent for each of those that `encode` describes."""

    @abstractmethod
    def decode(self, v: Tensor) -> Tensor:
        """Normal coordinates → the likelihood's parameters (logits or means), (B, *image shape)."""

    @abstractmethod
    def losses(self, images: Tensor, generator: Generator) -> NamedTuple:
        """Scalars of one training step; the one called `loss` is minimised. All noise comes from `generator`."""

    @abstractmethod
    def test_terms(self, images: Tensor, encoded: tuple[Tensor, ...], generator: Generator) -> dict[str, Tensor]:
        """Means over a batch of test images, of which `test_figures` makes numbers when all batches are averaged."""

    @abstractmethod
    def test_figures(self, means: Mapping[str, Tensor]) -> dict[str, float]:
        """The final metrics, from `test_terms` averaged over all test images, in float64."""

    @property
    def parts(self) -> tuple[int, ...]:
        """Coordinates, along axis 1, of the parts of a latent that diffusion scales apart from each other."""
        return (self.latent_shape[0],) if self.packing is None else self.packing.parts

    def factors(self, v: Tensor) -> list[tuple[Manifold, Tensor]]:
        """Where each of the `parts` lives, and these parts of the latents v.

        Hierarchy is looked for in the last one: the point where there is one beside a map.
        """
        if self.packing is None:
            return [(self.manifold, v)]
        return list(zip(self.manifold.direct_factors(), v.split(self.parts, 1), strict=True))

    def begin(self, mean_image: Tensor) -> None:
        """Called before training with the mean of all training images, (*image shape) in float64."""

    def targets(self, images: Tensor) -> Tensor:
        """The images as the likelihood is evaluated on them."""
        return images

    def to_images(self, v: Tensor) -> Tensor:
        """Normal coordinates → the mean of the likelihood: images in [0, 1] where it is Bernoulli."""
        parameters = self.decode(v)
        return torch.sigmoid(parameters) if self.likelihood == "bernoulli" else parameters

    def negative_log_likelihood(self, parameters: Tensor, images: Tensor) -> Tensor:
        """−Σ log p(x | z) over the batch, a scalar."""
        x = self.targets(images)
        if self.likelihood == "bernoulli":
            # binary_cross_entropy_with_logits in fewer passes
            return F.softplus(parameters).sum() - (x * parameters).sum()
        return 0.5 * (parameters - x).square().sum() + 0.5 * math.log(2 * math.pi) * x.numel()
