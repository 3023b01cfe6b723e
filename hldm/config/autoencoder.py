"""The first stage: image ⇄ point on the manifold."""

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le, MultipleOf
from pydantic import AfterValidator, Field

from hldm.config.base import (
    Count,
    NotNegative,
    NotNegativeWhole,
    Positive,
    Refusal,
    Section,
    Share,
    Switch,
    Whole,
)
from hldm.config.published import sound

MAX_DIMENSION = 16
"""Largest dimension of the global point. In more dimensions, samples of a standard prior at c = 1 lie so far out that
float32 cannot represent them."""


class Layout(Enum):
    """What a latent is: its value says it in words."""

    MAP = "a map of points"
    POINT = "one point per image"
    BOTH = "a map of points beside one point"


class Autoencoder(Section, family=True):
    """Image ⇄ point on the manifold."""

    takes_section = True
    layout: ClassVar[Layout] = Layout.MAP
    is_variational: ClassVar[bool] = True
    """Whether it has a posterior, a prior of its own to sample from, and a likelihood of images."""
    is_convolutional: ClassVar[bool] = True
    """Whether it is made of convolutions on pictures."""
    is_published: ClassVar[bool] = False
    """Whether it comes trained, from a folder of diffusers."""
    only_curved: ClassVar[frozenset[str]] = frozenset()
    """Settings that mean nothing where the latents are flat: there they do not count for identity."""

    latent_channels: Count = Field(default=4, description="coordinates of one latent point", examples=[4])


Width = Annotated[
    Count,
    MultipleOf(8),
    Refusal("{key} has {value}, which is not a multiple of 8 (the group size of its normalisation). Try {nearest}."),
]


class Convolutions(Autoencoder):
    """What all autoencoders of Stable Diffusion's kind share: ResNet blocks on a few levels."""

    block_channels: tuple[Width, ...] = Field(
        default=(24, 32),
        min_length=1,
        description="channels of each level; each level but the last halves the side",
        examples=[[16, 32, 64]],
    )
    layers_per_block: Count = Field(default=1, description="ResNet blocks per level", examples=[1])
    groups: Count = Field(default=8, description="groups that channels are normalised in", examples=[32])
    patch_size: Count = Field(
        default=2, description="side of the pixel blocks that are folded into channels first", examples=[2]
    )
    padded_side: Count = Field(
        default=32,
        description="height and width that images are padded to with black; auto: what the levels need",
        examples=[32],
    )


class Posterior(Section):
    """The law of latents that the encoder gives, and its prior."""

    posterior: Literal["wrapped", "riemannian"] = Field(
        default="wrapped",
        description="law of the posterior: a scale per coordinate, or one per point (Mathieu et al. 2019)",
    )
    prior_scale: Positive = Field(default=1.0, description="standard deviation of the centred prior", examples=[1.0])
    kl_weight: NotNegative = Field(default=0.1, description="weight of the KL term", examples=[0.1])


class KL(Posterior, Convolutions, target="hldm.autoencoder.KLAutoencoder"):
    """Stable Diffusion's KL autoencoder with its bottleneck on the manifold."""

    latent_rms: Positive | None = Field(
        default=None,
        description="fixed root mean square of the normal coordinates of every image's latents; null leaves the "
        "encoder free, which can shrink them until curvature no longer acts",
        examples=[1.0],
    )


class StyledKL(KL):
    """What autoencoders with a global point share."""

    feature_channels: Count = Field(
        default=8, description="features at each position that the point is made of", examples=[8]
    )
    style_channels: Count = Field(
        default=64, description="hyperplanes that the decoder measures the point's distance to", examples=[64]
    )


class GlobalKL(StyledKL, target="hldm.autoencoder.GlobalKLAutoencoder"):
    """The KL autoencoder with one point for the whole image in place of a map."""

    layout = Layout.POINT


class MapGlobalKL(StyledKL, target="hldm.autoencoder.MapGlobalKLAutoencoder"):
    """The KL autoencoder with a point for the whole image beside its map."""

    layout = Layout.BOTH
    only_curved = frozenset({"flat_map"})

    global_channels: Annotated[Whole, Ge(2), Le(MAX_DIMENSION)] = Field(
        default=8, description="dimension of the point", examples=[8]
    )
    flat_map: Switch = Field(
        default=False, description="whether the map is flat in every geometry, and only the point is hyperbolic"
    )


class VQ(Convolutions, target="hldm.autoencoder.VQAutoencoder"):
    """The vector-quantised first stage of latent diffusion, with its codebook on the manifold."""

    is_variational = False

    likelihood: Literal["bernoulli", "l1"] = Field(
        default="bernoulli",
        description="Bernoulli on grey levels, in nats per image, or the mean absolute error of pixels in [−1, 1], "
        "with every other term a mean too, as in latent diffusion",
    )
    codebook_size: Annotated[Whole, Ge(2)] = Field(default=256, description="number of codes", examples=[256])
    codebook: Literal["gradient", "ema"] = Field(
        default="gradient", description="what codes follow: the loss, or the running midpoint of their points"
    )
    commitment_weight: NotNegative = Field(
        default=1.0, description="weight of what pulls points to their codes", examples=[1.0]
    )
    codebook_weight: NotNegative = Field(
        default=0.25, description="weight of what pulls codes to their points, with codebook=gradient", examples=[0.25]
    )
    ema_decay: Share = Field(
        default=0.99, description="decay of the running midpoint, with codebook=ema", examples=[0.99]
    )
    initial_batches: NotNegativeWhole = Field(
        default=10,
        description="first steps whose latents the codes are drawn from; 0: small random numbers",
        examples=[10],
    )
    revive_after: Count | None = Field(
        default=20,
        description="steps without a point after which a code moves to a latent of the batch; null for never",
        examples=[20],
    )

    def unread(self) -> set[str]:
        return {"ema_decay"} if self.codebook == "gradient" else {"codebook_weight"}


class MLP(Posterior, Autoencoder, target="hldm.autoencoder.MLPAutoencoder"):
    """The Poincaré VAE of Mathieu et al. (2019): one hidden layer on either side of one latent point."""

    layout = Layout.POINT
    is_convolutional = False
    only_curved = frozenset({"gyroplane_form", "kl_estimator"})

    hidden: Count = Field(default=600, description="width of both hidden layers", examples=[600])
    kl_estimator: Literal["monte_carlo", "low_variance"] = Field(
        default="monte_carlo",
        description="estimate of the KL term: one sample's log q − log p, as the authors, or less noisy",
    )
    encoder_head: Literal["wrapped", "mobius"] = Field(
        default="wrapped", description="last layer of the mean: linear to normal coordinates, or a Möbius layer"
    )
    gyroplane_form: Literal["paper", "pvae"] = Field(
        default="paper", description="form of decoder_stem=gyroplane: the paper's or that of the authors' code"
    )
    likelihood: Literal["bernoulli", "normal"] = Field(
        default="bernoulli", description="law of pixels: Bernoulli on grey levels, or normal with unit variance"
    )


class Published(Autoencoder, target="hldm.autoencoder.PublishedAutoencoder"):
    """A published autoencoder in diffusers' folder format, frozen: first_stage=<folder> says which."""

    is_variational = False
    is_published = True
    only_curved = frozenset({"scaling", "radius"})

    architecture: Annotated[Mapping[str, Any], AfterValidator(sound)] | None = Field(
        default=None, description="content of its config.json, read from first_stage"
    )
    padded_side: Count = Field(
        default=32, description="height and width that images are padded to with black", examples=[32]
    )
    scaling: Positive | None = Field(
        default=None,
        description="what latents are multiplied by before they are normal coordinates of a ball; null: its own "
        "scaling_factor, 1 of a VQModel",
        examples=[0.18215],
    )
    radius: Positive = Field(
        default=4.0, description="largest √c|v| of a latent on a ball, which is cut to it", examples=[4.0]
    )
