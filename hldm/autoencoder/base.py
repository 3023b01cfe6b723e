"""What the platform asks of an autoencoder, whatever its bottleneck.

Legend: images (B, *image shape), in [0, 1] or, where the likelihood is normal, any numbers; `v` normal coordinates of
latents, (B, *latent shape), with the coordinates of a point along axis 1; `z` the points themselves.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from hldm.layout import LatentLayout


class Encoded(NamedTuple):
    """What an encoder says of the latents of B images."""

    loc: Tensor
    """(B, *latent shape) normal coordinates: the mean of the posterior, or the latents where the encoder is sure."""

    scale: Tensor | None = None
    """(B, *latent shape) standard deviations; None where the encoder is sure."""

    def rows(self, chosen: Tensor) -> "Encoded":
        """The latents of the chosen images, int64 (K,)."""
        return self.mapped(lambda part: part[chosen])

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Encoded":
        """With every tensor changed alike."""
        return Encoded(change(self.loc), None if self.scale is None else change(self.scale))


class Losses(NamedTuple):
    """The training loss of one batch, and the reconstructions that it speaks of."""

    terms: dict[str, Tensor]
    """Means over the batch, in nats per image where they are not numbers of codes; "loss" is minimised."""

    images: Tensor
    """(B, *image shape), the mean of the likelihood at the latents of this step."""

    @property
    def loss(self) -> Tensor:
        """The term that is minimised, a scalar."""
        return self.terms["loss"]


class Autoencoder(nn.Module, ABC):
    """Image → point on the manifold → image.

    Diffusion sees what `draw` makes of what `encode` finds, and `to_images` takes what diffusion makes.

    Args:
        layout: what a latent is made of, and where it lives.
        image_shape: of one image.
    """

    def __init__(self, layout: LatentLayout, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layout = layout
        self.manifold = layout.manifold
        self.image_shape = tuple(image_shape)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of one latent."""
        return self.layout.shape

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @abstractmethod
    def encode(self, images: Tensor) -> Encoded:
        """What the encoder says of the latents."""

    @abstractmethod
    def draw(self, encoded: Encoded, generator: Generator | Tensor) -> Tensor:
        """Normal coordinates of one latent for each that `encode` describes.

        Args:
            generator: source of the noise, or N(0, 1) of the latents' shape to draw with.
        """

    @abstractmethod
    def to_images(self, v: Tensor) -> Tensor:
        """Normal coordinates → images (B, *image shape), in [0, 1] where they are pictures."""


class TrainableAutoencoder(Autoencoder):
    """An autoencoder whose decoder gives a likelihood of images, so that it can be trained and judged.

    The Bernoulli likelihood is evaluated on grey levels, as is usual for VAEs on MNIST. It is no distribution of images
    of 256 levels: its nats, and bits per dimension made of them, do not compare with those of discrete or dequantised
    likelihoods in the literature.
    """

    likelihood: Literal["bernoulli", "normal", "l1"] = "bernoulli"
    """Bernoulli on grey levels, normal with unit variance, or the absolute error of pixels in [−1, 1]."""

    @property
    def loss_unit(self) -> int:
        """What a mean over the numbers of an image is multiplied with to be a term of the loss: their number, since
        losses are per image, or 1 where they are such means themselves."""
        return 1 if self.likelihood == "l1" else math.prod(self.image_shape)

    @abstractmethod
    def decode(self, v: Tensor) -> Tensor:
        """Normal coordinates → the likelihood's parameters (logits or means), (B, *image shape)."""

    @property
    @abstractmethod
    def last_layer(self) -> Tensor:
        """The weight of the layer that puts out the likelihood's parameters."""

    @abstractmethod
    def losses(self, images: Tensor, generator: Generator) -> Losses:
        """What one training step minimises. All noise comes from `generator`."""

    @abstractmethod
    def test_terms(self, images: Tensor, encoded: Encoded, generator: Generator) -> dict[str, Tensor]:
        """Means over a batch of test images, of which `test_figures` makes numbers when all batches are averaged."""

    @abstractmethod
    def test_figures(self, means: Mapping[str, Tensor]) -> dict[str, float]:
        """The final metrics, from `test_terms` averaged over all test images, in float64."""

    def begin(self, mean_image: Tensor) -> None:
        """Called before training with the mean of all training images, (*image shape) in float64."""

    def targets(self, images: Tensor) -> Tensor:
        """The images as the likelihood is evaluated on them."""
        return images

    def mean_of(self, parameters: Tensor) -> Tensor:
        """The likelihood's parameters → its mean, an image."""
        if self.likelihood == "l1":
            return (parameters + 1) / 2
        return torch.sigmoid(parameters) if self.likelihood == "bernoulli" else parameters

    def to_images(self, v: Tensor) -> Tensor:
        """Normal coordinates → the mean of the likelihood: images in [0, 1] where it is not normal."""
        images = self.mean_of(self.decode(v))
        return images.clamp(0, 1) if self.likelihood == "l1" else images

    def negative_log_likelihood(self, parameters: Tensor, images: Tensor) -> Tensor:
        """−Σ log p(x | z) over the batch, a scalar."""
        x = self.targets(images)
        if self.likelihood == "bernoulli":
            # binary_cross_entropy_with_logits in fewer passes
            return F.softplus(parameters).sum() - (x * parameters).sum()
        return 0.5 * (parameters - x).square().sum() + 0.5 * math.log(2 * math.pi) * x.numel()
