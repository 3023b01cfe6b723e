"""The space of the latents: its curvature and its factors."""

from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le
from pydantic import Field

from hldm.config.base import Count, FolderName, NotNegative, Number, Positive, Refusal, Section, Whole, Words

_RANGE = (
    "c must be a finite number ≥ 0 that float32 can hold (the ball has sectional curvature −c). For flat space type "
    "geometry=euclidean; for a nearly flat ball try curvature=1e-4."
)


class Curvature(Section, family=True):
    """c ≥ 0, minus the sectional curvature of every ball of the run. It is built once, and all balls share it."""

    is_learnable: ClassVar[bool]
    value: float

    @property
    def words(self) -> str:
        """What a user types for it after `curvature=`."""
        return "learnable" if self.is_learnable else f"{self.value:g}"

    @property
    def is_flat(self) -> bool:
        """Whether the balls are R^n, bit for bit."""
        return self.value == 0


class FixedCurvature(Curvature, target="hldm.geometry.FixedCurvature"):
    """A number that stays as it is."""

    is_learnable = False
    value: Annotated[NotNegative, Refusal("{key}={value} is not a curvature: " + _RANGE)] = Field(
        default=1.0, description="c; 0 is flat space, bit for bit", examples=[0.37]
    )


class LearnableCurvature(Curvature, target="hldm.geometry.LearnableCurvature"):
    """A number that is learned, positive by construction."""

    is_learnable = True
    value: Annotated[
        Number,
        Ge(1e-30),
        Le(1e30),
        Refusal(
            "{key}=learnable cannot start at {key}.value={value}: a learned curvature is positive by construction, and "
            "float32 has to hold it. Try {key}.value=1e-2, or {key}=0 for a flat ball that stays flat."
        ),
    ] = Field(default=1.0, description="c at the start of training, exactly", examples=[1.0])
    learning_rate: Positive | None = Field(
        default=None,
        description="learning rate of log c at its highest, without weight decay; null: both as of any other weight",
        examples=[0.08],
    )


class Manifold(Section, family=True):
    """Where one latent point lives."""

    @property
    def leaves(self) -> tuple["Manifold", ...]:
        """The factors of a product, or the manifold itself."""
        return (self,)

    @property
    def is_curved(self) -> bool:
        """Whether it takes the run's curvature."""
        return False

    @property
    def is_single(self) -> bool:
        """Whether it is one ball or one flat space, rather than a product."""
        return True

    @property
    def dimension(self) -> int:
        """Channels of all factors together."""
        return sum(leaf.dimension for leaf in self.leaves)


class Leaf(Manifold):
    """A manifold that is no product of others."""

    channels: Annotated[Whole, Words("a whole number ≥ 1")] = Field(default=4, description="dimension", examples=[2])

    @property
    def dimension(self) -> int:
        return self.channels


class Euclidean(Leaf, target="hldm.geometry.Euclidean"):
    """Flat space."""


class PoincareBall(Leaf, target="hldm.geometry.PoincareBall"):
    """A product of Poincaré balls of the run's curvature."""

    balls: Count = Field(
        default=1,
        description="balls that the channels are cut into; auto: planes where latents are a map of an even number of "
        "channels, else 1",
        examples=[2],
    )

    @property
    def is_curved(self) -> bool:
        return True

    @property
    def is_single(self) -> bool:
        return self.balls == 1


class ProductManifold(Manifold, target="hldm.geometry.ProductManifold"):
    """A product of manifolds, whose channels follow each other."""

    factors: tuple[Manifold, ...] = Field(min_length=1, description="the manifolds")

    @property
    def leaves(self) -> tuple[Manifold, ...]:
        return tuple(leaf for factor in self.factors for leaf in factor.leaves)

    @property
    def is_curved(self) -> bool:
        return any(factor.is_curved for factor in self.factors)

    @property
    def is_single(self) -> bool:
        return len(self.factors) == 1 and self.factors[0].is_single


class Geometry(Section):
    """The space of the latents and the layer by which they enter the decoder."""

    name: FolderName = Field(
        default="euclidean", description="name of the geometry in tables and folders", examples=["poincare"]
    )
    manifold: Manifold = Field(default=Euclidean(channels=4), description="manifold that one latent point lives on")
    decoder_stem: Literal["linear", "gyroplane", "mobius"] = Field(
        default="linear",
        description="first layer of the decoder: affine in normal coordinates, signed distances to gyroplanes, or, "
        "for autoencoder=mlp, a Möbius layer",
    )
    flat_channels: Whole | None = Field(
        default=None, description="channels of geometry=hybrid that are flat", examples=[2]
    )
