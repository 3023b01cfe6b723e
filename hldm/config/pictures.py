"""Data sets of pictures that are read from files: any size, brought to one."""

from collections import Counter
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le, Lt
from pydantic import Field

from hldm.config import picture_files
from hldm.config.base import Number, Switch, UserPath, Whole
from hldm.config.dataset import Dataset


class Pictures(Dataset):
    """Pictures in files, of any size and kind: the middle square, reduced to one size, in colour or grey."""

    reads_files: ClassVar[bool] = True

    side: Annotated[Whole, Ge(8), Le(2048)] = Field(
        default=32,
        description="height and width that the middle square of a picture is brought to, bicubic and smoothed",
        examples=[64],
    )
    colour: Literal["rgb", "grey"] = Field(default="rgb", description="three channels, or one")
    flips: Switch = Field(default=False, description="whether training also sees each image in the mirror")

    @property
    def image_side(self) -> int:
        return self.side

    @property
    def image_channels(self) -> int:
        return 3 if self.colour == "rgb" else 1


class Folder(Pictures, target="hldm.data.folder"):
    """A folder of pictures of one's own; a class is the first folder on the way to a picture, where there are any."""

    path: UserPath | None = Field(default=None, description="the folder, which is needed", examples=["data/birds"])
    validation_share: Annotated[Number, Ge(0), Lt(0.5)] = Field(
        default=0.05, description="share of each class's images for choices", examples=[0.1]
    )
    test_share: Annotated[Number, Ge(0.001), Lt(0.5)] = Field(
        default=0.1, description="share of each class's images to judge by", examples=[0.2]
    )
    label: Literal["folder", "caption"] = Field(
        default="folder", description="what the classes are: first folders, or captions in metadata.csv or .jsonl"
    )

    @property
    def listing(self) -> picture_files.Listing | None:
        """The folder's pictures, None where it cannot be read."""
        return None if self.path is None else picture_files.known(self.path)

    def by_content(self) -> dict[str, str]:
        return {"path": self.listing.identity} if self.listing else {}

    @property
    def _split_counts(self) -> tuple[list[int], list[int], list[int]] | None:
        """Of each class, how many images are in each part, damaged ones counted. Not known where captions decide."""
        if self.listing is None or self.label != "folder":
            return None
        of_class = Counter(map(picture_files.class_of, self.listing.names))
        counts = [picture_files.parts(n, self.validation_share, self.test_share) for n in of_class.values()]
        train, validation, test = ([part[i] for part in counts] for i in range(3))
        return train, validation, test

    @property
    def training_images(self) -> int | None:
        counts = self._split_counts
        return sum(counts[0]) if counts else None

    @property
    def test_images(self) -> int | None:
        counts = self._split_counts
        return sum(counts[2]) if counts else None

    @property
    def has_validation(self) -> bool | None:
        return self.validation_share > 0

    @property
    def floor_images(self) -> int | None:
        counts = self._split_counts
        return picture_files.drawable(counts[0], counts[2]) if counts else None

    def missing(self) -> str | None:
        """What is wrong with the folder, in a sentence; None where it can be read."""
        if self.path is None:
            return "dataset=folder needs a folder of pictures. Type dataset.path=<it>."
        if not Path(self.path).is_dir():
            return f"dataset.path={self.path} is not a folder. Type dataset.path=<a folder of pictures>."
        if self.listing is None:
            return f"dataset.path={self.path} cannot be read. Look at its permissions."
        if len(self.listing.names) < 3:
            return (
                f"dataset.path={self.path} has {len(self.listing.names)} pictures, and there must be 3 at least: to "
                "train on, to choose by and to judge by. Files count whose names end in "
                f"{', '.join(sorted(picture_files.SUFFIXES))}; look at the folder's name."
            )
        return None
