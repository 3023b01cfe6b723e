"""The data set."""

from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Field

from hldm.config.base import Count, NotNegativeWhole, Number, Positive, Section, UserPath, Whole


class Dataset(Section, family=True):
    """Training, validation and test images, or vectors."""

    takes_section = True
    has_pictures: ClassVar[bool] = True
    """Whether its rows are pictures rather than vectors."""
    test_images: ClassVar[int | None] = None
    """How many images there are to judge by, where that is known before they are read."""
    image_side: ClassVar[int | None] = None
    """Height and width of an image, likewise."""
    image_channels: ClassVar[int | None] = None
    """How many channels it has, likewise."""

    @property
    def training_images(self) -> int | None:
        """How many images there are to train on, likewise."""
        return None

    @property
    def balanced_images(self) -> int | None:
        """How many training images can be drawn with as many of each class, at least, likewise."""
        return self.training_images


class MNIST(Dataset, target="hldm.data.mnist"):
    """60,000 training and 10,000 test digits."""

    test_images = 10_000
    image_side = 28
    image_channels = 1

    folder: UserPath | None = Field(
        default=None,
        description="a folder with the four original files, packed or not; null: the bundled ones, the same digits",
        examples=["data/MNIST/raw"],
    )
    validation_images: Annotated[Whole, Ge(0), Le(50_000)] = Field(
        default=0, description="last training images that are set aside for choices", examples=[5000]
    )

    @property
    def training_images(self) -> int:
        return 60_000 - self.validation_images

    @property
    def balanced_images(self) -> int:
        """Ten times the fives, the smallest class: 5,421 of 60,000.

        How many of them are left beside validation images stands in the data alone. They are 8.61 % or more of the
        training images wherever those are cut off, so 8.6 % is said: up to 5 % fewer than there are.
        """
        return 54_210 if self.validation_images == 0 else self.training_images * 86 // 100

    def unread(self) -> set[str]:
        return {"folder"}  # every file's content is compared with the published one's


class Branching(Dataset, target="hldm.data.branching"):
    """The synthetic tree of Mathieu et al. (2019): noisy observations of its nodes, a class per node."""

    has_pictures = False

    depth: NotNegativeWhole = Field(default=6, description="levels below the root", examples=[6])
    children: Count = Field(default=2, description="children of every node above the last level", examples=[2])
    siblings: Count = Field(default=5, description="observations of each node", examples=[5])
    dim: Count = Field(default=50, description="coordinates of an observation", examples=[50])
    step_variance: Positive = Field(
        default=1.0, description="variance of the step from parent to child", examples=[1.0]
    )
    noise_variance: Positive = Field(
        default=0.2, description="variance of the noise from a node to its observations", examples=[0.2]
    )
    train_share: Annotated[Number, Gt(0), Lt(1)] = Field(
        default=0.7, description="share of the observations to train on", examples=[0.7]
    )
    seed: NotNegativeWhole = Field(default=0, description="seed of the data; every run has the same", examples=[0])
