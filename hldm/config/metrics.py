"""How a run is judged."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from hldm.config.base import (
    MOST_REPEATS,
    Count,
    Guidance,
    NotNegativeWhole,
    Positive,
    Repeats,
    Section,
    Switch,
    UserPath,
    Whole,
    Word,
    Words,
    auto_or_whole,
)
from hldm.files import content_digest


class Weights(Section):
    """Something whose weights lie in a file."""

    weights: UserPath | None = Field(default=None, description="file with the weights; null: the bundled ones")

    def by_content(self) -> dict[str, str]:
        if self.weights is None or not (file := Path(self.weights)).is_file():
            return {}
        return {"weights": content_digest([file])}


class Extractor(Section, family=True):
    """Where FID and the other metrics of samples look at images.

    A plain name, such as digits, stands for the one of that name.
    """

    name: ClassVar[str]
    """By which it is chosen, and by which its metrics end where another one leads; the class's own in lower case where
    it gives none."""
    needs_digits: ClassVar[bool] = False
    """Whether it sees grey images of 28 × 28 pixels only."""
    features: ClassVar[int | None] = None
    """How many there are, where that is known before its weights are read."""

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        cls.name = cls.__dict__.get("name", cls.__name__.lower())

    @classmethod
    def chosen(cls, value: Any) -> Self:
        if isinstance(value, Section | Mapping):
            return super().chosen(value)
        names = {section.name: target for target, section in cls.options.items() if issubclass(section, Extractor)}
        if not isinstance(value, str) or value not in names:
            raise PydanticCustomError("name", "{known}", {"known": ", ".join(names)})
        return super().chosen({"_target_": names[value]})


class DigitFeatures(Weights, Extractor, target="hldm.metrics.DigitFeatures"):
    """Features of the bundled digit classifier."""

    name = "digits"
    needs_digits = True
    features = 64


class UnlabelledFeatures(Weights, Extractor, target="hldm.metrics.UnlabelledFeatures"):
    """Features of digits that were learned without labels."""

    name = "unlabelled"
    needs_digits = True
    features = 64


class InceptionFeatures(Weights, Extractor, target="hldm.metrics.InceptionFeatures"):
    """The field's usual extractor, for colour photographs."""

    name = "inception"
    features = 2048


class DINOv2Features(Weights, Extractor, target="hldm.metrics.DINOv2Features"):
    """A transformer that saw no labels, for colour photographs."""

    name = "dinov2"


class PixelFeatures(Extractor, target="hldm.metrics.PixelFeatures"):
    """Statistics of pixels, which need no weights: where colours are, and how much changes at each scale."""

    name = "pixels"


class Classifier(Section, family=True):
    """Judges whether samples show their label."""

    needs_digits: ClassVar[bool] = False
    """Whether it sees grey images of 28 × 28 pixels only."""


class DigitClassifier(Weights, Classifier, target="hldm.metrics.DigitClassifier"):
    """The bundled digit classifier."""

    needs_digits = True


class Likelihood(Section, family=True):
    """The likelihood of test images under the autoencoder."""


class MarginalLikelihood(Likelihood, target="hldm.pipeline.MarginalLikelihood"):
    """By quadrature in two dimensions, and by importance sampling."""

    images: Annotated[Whole, Ge(2)] = Field(default=10000, description="test images", examples=[10000])
    importance_samples: Annotated[Whole, Ge(2)] = Field(
        default=5000, description="draws of the latent for one image", examples=[5000]
    )
    checked_images: Annotated[Whole, Ge(2)] = Field(
        default=1000,
        description="images that go by importance sampling too, where the others go by quadrature alone",
        examples=[1000],
    )
    spacing: Positive = Field(default=0.08, description="distance between nodes of the quadrature", examples=[0.08])


class Metric(Section, family=True):
    """A metric of one's own: its class is called with the model, the data set and a generator, and gives numbers."""


class Hierarchy(Section):
    """How the hierarchy of the latents is measured."""

    points: Annotated[Whole, Ge(4)] = Field(
        default=400, description="latents that δ_rel is measured on", examples=[1500]
    )
    tries: Repeats = Field(
        default=5, description="draws of such latents; 10 of 1,500 points are published", examples=[5]
    )
    base_points: Repeats = Field(default=1, description="base points that one δ is the mean over", examples=[5])
    draws: Annotated[Whole, Ge(0), Le(MOST_REPEATS)] = Field(
        default=0,
        description="draws of each null for tests of hierarchy, whose p is at least 1/(draws + 1); 0: no tests",
        examples=[99],
    )
    test_points: Annotated[Whole, Ge(8)] = Field(
        default=300, description="latents that the test without labels looks at", examples=[500]
    )
    pair_points: Annotated[Whole, Ge(8)] = Field(
        default=2000,
        description="latents, at most, whose pairs are looked at where the tree is known",
        examples=[5000],
    )

    def unread(self) -> set[str]:
        return set() if self.draws else {"test_points", "pair_points"}


def _several(value: Any) -> Any:
    """One extractor is a list of one."""
    return [value] if isinstance(value, str) else value


def _not_one(value: Any) -> Any:
    if value == 1:
        raise ValueError
    return value


USUAL_SCALES = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5)
"""The scales of guidance that conf/ recommends. A run that has no use for a curve leaves them out without a word."""

BOUND_IMAGES = 200
"""Test images of likelihood_images=auto: geometries are compared image by image, which so many tell apart by a nat."""


class Metrics(Section):
    """What is measured when a run has been trained. None of it changes the trained weights."""

    extractors: Annotated[
        tuple[Extractor, ...],
        BeforeValidator(_several),
        Words("a list of names, or [] for no samples"),
    ] = Field(
        default=(DigitFeatures(),),
        description="features for FID, IS and KID, the leading ones first; []: no samples",
        examples=["[digits]"],
    )
    classifier: Classifier | None = Field(
        default=DigitClassifier(), description="judges whether samples show their label"
    )
    weights: UserPath | None = Field(
        default=None, description="file of metrics=inception or metrics=dinov2 with its weights", examples=["<file>"]
    )
    samples: Annotated[Whole, Ge(2)] = Field(default=5000, description="samples per sampling seed", examples=[5000])
    sampling_seeds: tuple[NotNegativeWhole, ...] = Field(
        default=(0,), min_length=1, description="seeds of sampling, with a set of samples each", examples=["[0,1]"]
    )
    sampling_batch_size: Count = Field(default=500, description="samples that are drawn at a time", examples=[100])
    guidance_scales: Annotated[tuple[Guidance, ...], Words("a list of numbers from 0 to 1000")] = Field(
        default=(),
        description="scales of guidance that are tried on validation images, of which a run takes its best to the test "
        "images; one or none: no curve",
        examples=["[1,1.5,2]"],
    )
    sampler_steps: Annotated[tuple[Count, ...], Words("a list of whole numbers ≥ 1")] = Field(
        default=(), description="numbers of the sampler's steps that are tried likewise", examples=["[2,4,8]"]
    )
    sampler_methods: Annotated[tuple[Word, ...], Words("a list of the sampler's methods")] = Field(
        default=(), description="methods of the sampler that are tried likewise", examples=["[midpoint,heun]"]
    )
    validation_samples: Annotated[Whole, Ge(10)] = Field(
        default=1000, description="samples for each point of such a curve", examples=[1000]
    )
    memorisation: Switch = Field(
        default=False, description="how near samples come to training images, against test images"
    )
    per_class: Switch = Field(
        default=False, description="FID of each class too, which needs more samples of a class than features"
    )
    perceptual_weights: UserPath | None = Field(
        default=None,
        description="file with VGG16's weights, for reconstruction_lpips; null: that is not measured",
        examples=["<file>"],
    )
    first_stage_images: Annotated[Whole, Ge(4)] = Field(
        default=5000, description="test images for reconstruction, ELBO and hierarchy", examples=[10000]
    )
    hierarchy: Hierarchy = Field(default=Hierarchy(), description="δ_rel, tests of hierarchy, a known tree")
    likelihood: Likelihood | None = Field(default=None, description="marginal likelihood of test images; null for none")
    others: tuple[Metric, ...] = Field(default=(), description="metrics of your own, see docs/extending.md")
    likelihood_images: Annotated[
        Literal["auto"] | NotNegativeWhole,
        BeforeValidator(auto_or_whole),
        AfterValidator(_not_one),
        Words("auto, 0 for none, or a whole number ≥ 2, as it comes with its standard error"),
    ] = Field(
        default=0,
        description=f"test images for the evidence bound with the diffusion model as prior; auto: {BOUND_IMAGES} where "
        "there is such a bound",
        examples=[1000],
    )
    likelihood_steps: Repeats = Field(
        default=16, description="steps of the solver of that bound, of four network evaluations each", examples=[16]
    )

    def by_content(self) -> dict[str, str]:
        file = self.perceptual_weights
        return {"perceptual_weights": content_digest([Path(file)])} if file and Path(file).is_file() else {}

    def unread(self) -> set[str]:
        unread = {"weights"}  # it counts where an extractor reads it
        if not self.likelihood_images:
            unread.add("likelihood_steps")
        lists = ("guidance_scales", "sampler_steps", "sampler_methods")
        short = {name for name in lists if len(getattr(self, name)) < 2}
        unread |= short
        if len(short) == len(lists):
            unread.add("validation_samples")
        if not self.extractors:
            unread |= {
                "samples",
                "sampling_seeds",
                "sampling_batch_size",
                "classifier",
                "memorisation",
                "per_class",
                "validation_samples",
                *lists,
            }
        return unread
