"""The data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, Field

from hldm.config.base import (
    Count,
    NotNegative,
    NotNegativeWhole,
    Number,
    Positive,
    Section,
    UserPath,
    Whole,
    Word,
    Words,
)
from hldm.files import content_digest


class Dataset(Section, family=True):
    """Training, validation and test images, or vectors."""

    takes_section = True
    has_pictures: ClassVar[bool] = True
    """Whether its rows are pictures rather than vectors."""
    reads_files: ClassVar[bool] = False
    """Whether what it names is given, beside the section, a folder for what is found out about files, `cache`, and how
    many processes may read ahead, `readers`."""
    has_digits: ClassVar[bool] = False
    """Whether its classes are the ten digits, so that a classifier of digits can judge them."""

    @property
    def image_side(self) -> int | None:
        """Height and width of an image, where that is known before any is read."""
        return None

    @property
    def image_channels(self) -> int | None:
        """How many channels it has, likewise."""
        return None

    @property
    def training_images(self) -> int | None:
        """How many images there are to train on, likewise."""
        return None

    @property
    def is_sized(self) -> bool:
        """Whether all that counts for what training takes is known, likewise."""
        return None not in (self.image_side, self.image_channels, self.training_images)

    @property
    def test_images(self) -> int | None:
        """How many images there are to judge by, likewise."""
        return None

    @property
    def has_validation(self) -> bool | None:
        """Whether there are images to choose settings on, likewise."""
        return None

    @property
    def floor_images(self) -> int | None:
        """How many training images can be drawn with classes as often as the test images have them, at least."""
        return self.training_images


class Published(Dataset):
    """Images as somebody published them, of whose training images the last ones are set aside: grey, 28 × 28."""

    size: ClassVar[tuple[int, int]] = (60_000, 10_000)
    """Training and test images, as published."""

    if TYPE_CHECKING:
        validation_images: int

    @property
    def image_side(self) -> int:
        return 28

    @property
    def image_channels(self) -> int:
        return 1

    @property
    def published(self) -> tuple[int, int]:
        """Training and test images, as published."""
        return self.size

    @property
    def training_images(self) -> int:
        return self.published[0] - self.validation_images

    @property
    def test_images(self) -> int:
        return self.published[1]

    @property
    def has_validation(self) -> bool:
        return self.validation_images > 0


class MNIST(Published, target="hldm.data.mnist"):
    """60,000 training and 10,000 test digits."""

    has_digits = True

    folder: UserPath | None = Field(
        default=None,
        description="a folder with the four original files, packed or not; null: the bundled ones, the same digits",
        examples=["data/MNIST/raw"],
    )
    validation_images: Annotated[Whole, Ge(0), Le(50_000)] = Field(
        default=0, description="last training images that are set aside for choices", examples=[5000]
    )

    @property
    def floor_images(self) -> int:
        """The twos are scarcest against the test images, which have more of them: 57,732 can be drawn of 60,000.

        How many are left beside validation images stands in the data alone. They are 93.4 % or more of the training
        images wherever those are cut off, so 93 % is said: up to 4 % fewer than there are.
        """
        return self.training_images * 93 // 100

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
    validation_share: Annotated[Number, Ge(0), Lt(1)] = Field(
        default=0.0, description="share of the observations, from those to train on, for choices", examples=[0.1]
    )
    seed: NotNegativeWhole = Field(default=0, description="seed of the data; every run has the same", examples=[0])
    label_level: Count | None = Field(
        default=None,
        description="level below the root whose nodes are the classes; null: every node is one",
        examples=[2],
    )

    @property
    def has_validation(self) -> bool:
        return self.validation_share > 0

    def unread(self) -> set[str]:
        return {"label_level"} if self.label_level == self.depth else set()

    @property
    def numbers(self) -> int:
        """How many there are in all observations, of up to 64 levels: so many of two children nothing can hold."""
        depth = min(self.depth, 64)
        nodes = self.depth + 1 if self.children == 1 else sum(self.children**level for level in range(depth + 1))
        return nodes * self.siblings * self.dim


class TreeImages(Dataset, target="hldm.data.tree_images"):
    """Grey pictures of 28 × 28 pixels that branch: a child is its parent with a smooth change, smaller by level."""

    depth: Annotated[Whole, Ge(0), Le(20)] = Field(default=4, description="levels below the root", examples=[3])
    children: Count = Field(default=2, description="children of every node above the last level", examples=[3])
    siblings: Annotated[Whole, Ge(3)] = Field(default=400, description="images of each node", examples=[100])
    noise: NotNegative = Field(
        default=0.2,
        description="amplitude of the smooth change from a node to its images; 1 is the root's",
        examples=[0.1],
    )
    shrink: Annotated[Number, Gt(0), Le(1)] = Field(
        default=0.7, description="amplitude of a level's change, as a share of the one above", examples=[0.5]
    )
    smoothness: Annotated[Number, Ge(1), Le(28)] = Field(
        default=4.0, description="width of the changes, in pixels", examples=[6.0]
    )
    validation_share: Annotated[Number, Gt(0), Lt(0.5)] = Field(
        default=0.1, description="share of each node's images for choices", examples=[0.1]
    )
    test_share: Annotated[Number, Gt(0), Lt(0.5)] = Field(
        default=0.2, description="share of each node's images to judge by", examples=[0.2]
    )
    seed: NotNegativeWhole = Field(default=0, description="seed of the data; every run has the same", examples=[0])
    label_level: Count | None = Field(
        default=None,
        description="level below the root whose nodes are the classes; null: every node is one",
        examples=[2],
    )

    def unread(self) -> set[str]:
        return {"label_level"} if self.label_level == self.depth else set()

    @property
    def image_side(self) -> int:
        return 28

    @property
    def image_channels(self) -> int:
        return 1

    @property
    def split_siblings(self) -> tuple[int, int, int]:
        """Images of each node to train on, for choices, and to judge by: one at least."""
        validation, test = (max(1, int(share * self.siblings)) for share in (self.validation_share, self.test_share))
        return self.siblings - validation - test, validation, test

    def nodes(self, depth: int) -> int:
        """How many nodes there are down to a level."""
        return sum(self.children**level for level in range(depth + 1))

    @property
    def training_images(self) -> int:
        return self.nodes(self.depth) * self.split_siblings[0]

    @property
    def test_images(self) -> int:
        return self.nodes(self.depth) * self.split_siblings[2]

    @property
    def has_validation(self) -> bool:
        return True


def _zip_name(value: str) -> str:
    if Path(value).name != value or not value.endswith(".zip"):
        raise ValueError
    return value


class Omniglot(Dataset, target="hldm.data.omniglot"):
    """Characters of many alphabets, each drawn by 20 people (Lake et al. 2015): alphabet → character → drawing."""

    folder: UserPath | None = Field(
        default=None, description="folder with the archives, which are needed", examples=["data/omniglot"]
    )
    archives: Annotated[
        tuple[Annotated[Word, AfterValidator(_zip_name)], ...], Words("a list of names of zip files in dataset.folder")
    ] = Field(
        default=("images_background_small1.zip", "images_background_small2.zip"),
        min_length=1,
        description="archives to read from it; a drawing in two of them counts once",
        examples=["[images_background.zip]"],
    )
    side: Annotated[Whole, Ge(8), Le(105)] = Field(
        default=28, description="height and width of an image, reduced from 105", examples=[32]
    )
    validation_drawers: Count = Field(
        default=2, description="people, of each alphabet's 20, whose drawings are for choices", examples=[2]
    )
    test_drawers: Count = Field(default=4, description="people whose drawings are judged by", examples=[4])
    label_level: Literal["alphabet", "character"] = Field(default="alphabet", description="what the classes are")

    def by_content(self) -> dict[str, str]:
        files = [Path(self.folder or "", name) for name in self.archives]
        if self.folder is None or not all(file.is_file() for file in files):
            return {}
        return {"folder": content_digest(files)}

    @property
    def image_side(self) -> int:
        return self.side

    @property
    def image_channels(self) -> int:
        return 1

    @property
    def has_validation(self) -> bool:
        return True
