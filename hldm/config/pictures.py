"""Data sets of pictures that are read from files: any size, brought to one."""

import sys
from collections import Counter
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le, Lt
from pydantic import Field

from hldm.config import picture_files, row_files
from hldm.config.base import Number, Switch, UserPath, Whole, Word
from hldm.config.captions import captions
from hldm.config.dataset import Dataset
from hldm.errors import UserError

LMDB, HEAD = (0xBEEFC0DE).to_bytes(4, sys.byteorder), 24
"""By which an LMDB is known, and the bytes at its beginning in which that stands."""


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

    def test_share_for(self, least: int, images: int) -> float | None:
        """What dataset.test_share gives at least so many images to judge by, where now there are `images`; None where
        none does."""
        return None


def _enlarged(share: float, least: int, images: int) -> float | None:
    """The share that cuts `least` images where `share` cuts `images`, None where that leaves too little."""
    wanted = ceil(100 * share * least / images) / 100 if images else 1.0
    return wanted if wanted < 0.5 else None


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
        of_class = self._class_counts
        if of_class is None:
            return None
        counts = [picture_files.parts(n, self.validation_share, self.test_share) for n in of_class]
        train, validation, test = ([part[i] for part in counts] for i in range(3))
        return train, validation, test

    @property
    def _class_counts(self) -> list[int] | None:
        if self.listing is None or self.label != "folder":
            return None
        return list(Counter(map(picture_files.class_of, self.listing.names)).values())

    def test_share_for(self, least: int, images: int) -> float | None:
        wanted, of_class = _enlarged(self.test_share, least, images), self._class_counts
        if of_class is None:
            return wanted
        # each class's share is cut to a whole number of its own
        for share in (percent / 100 for percent in range(1, 50)):
            cut = sum(picture_files.parts(n, self.validation_share, share)[2] for n in of_class)
            if share >= (wanted or 0) and cut >= least:
                return share
        return None

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
        first = {picture_files.class_of(name) for name in self.listing.names}
        parts = sorted(name for name in first if name.lower() in picture_files.PARTS)
        kinds = {picture_files.PARTS[name.lower()] for name in parts}
        if len(kinds) > 1 or (len(first) > 1 and set(parts) == first - {""}):
            what = (
                f"the folders {', '.join(parts)}, which are parts rather than classes"
                if len(parts) > 1
                else f"the folder {parts[0]}, which is a part rather than a class, and pictures beside it"
            )
            largest = next((name for name in parts if name.lower().startswith("train")), parts[0])
            return (
                f"dataset.path={self.path} has {what}. "
                f"Type dataset.path={Path(self.path, largest)}: validation and test are cut from it by "
                "dataset.validation_share and dataset.test_share."
            )
        if self.test_images == 0:
            return (
                f"dataset.path={self.path} has fewer than 3 pictures of each class, so that none is to judge by. A "
                "class is a folder: put classes together, or add pictures."
            )
        try:
            return self._uncaptioned(self.listing.names) if self.label == "caption" else None
        except UserError as error:
            return str(error)

    def _uncaptioned(self, names: tuple[str, ...]) -> str | None:
        """What is wrong with the captions, in a sentence; None where some are of pictures that there are."""
        said = captions(Path(self.path or ""))
        if not said:
            return (
                f"dataset.label=caption needs metadata.csv or metadata.jsonl in dataset.path={self.path}, with "
                "file_name and text for each picture. Write one, or type dataset.label=folder."
            )
        if said.keys().isdisjoint(names):
            return (
                f"dataset.path={self.path} has captions, and none is of a picture there: captions are of "
                f"{next(iter(said))} for example, and a picture is {names[0]}. Write names in metadata as they are "
                "below dataset.path, with their ending, or type dataset.label=folder."
            )
        return None


class LSUN(Pictures, target="hldm.data.lsun"):
    """LSUN as it is published (Yu et al. 2015): LMDBs of encoded pictures, two for each scene, one for each object.

    Training images are the published training set but for some that are set aside; test images are the published
    validation set, 300 of each scene. Objects have none, so 300 of each are set aside for it, of one that has fewer
    than 3,000 a tenth. Those are too few for FID, so samples are held against training images.
    """

    VALIDATION_OF_A_SCENE: ClassVar[int] = 300

    path: UserPath | None = Field(
        default=None,
        description="folder with <scene>_train_lmdb and <scene>_val_lmdb, or <object>, which are needed",
        examples=["data/lsun"],
    )
    categories: tuple[Word, ...] = Field(
        default=("bedroom",),
        min_length=1,
        description="which of its categories; a class each",
        examples=["[church_outdoor]"],
    )
    validation_images: Annotated[Whole, Ge(0)] = Field(
        default=5000, description="training images that are set aside for choices", examples=[5000]
    )
    reference_images: Annotated[Whole, Ge(10)] = Field(
        default=50_000, description="training images, at most, that samples are held against", examples=[50_000]
    )

    def is_object(self, category: str) -> bool:
        """Whether it has one LMDB, under its own name."""
        return Path(self.path or "", category, "data.mdb").is_file()

    def folders(self, part: str) -> list[Path]:
        """The LMDBs of the categories: part is "train", one for each, or "val", one for each scene."""
        root = Path(self.path or "")
        if part == "train":
            return [root / (name if self.is_object(name) else f"{name}_train_lmdb") for name in self.categories]
        return [root / f"{name}_val_lmdb" for name in self.categories if not self.is_object(name)]

    @property
    def has_validation(self) -> bool:
        return self.validation_images > 0

    def by_content(self) -> dict[str, str]:
        files = [folder / "data.mdb" for part in ("train", "val") for folder in self.folders(part)]
        if self.path is None or not all(file.is_file() for file in files):
            return {}
        return {"path": picture_files.sampled_digest(files)}

    def missing(self) -> str | None:
        """What is wrong with the folder, in a sentence; None where it can be read."""
        for name in self.categories:
            if name in (".", "..") or Path(name).name != name:
                return f"dataset.categories has {name}, which is no name of a folder. Type one, such as bedroom."
        first = self.categories[0]
        here = Path(self.path or "")
        if here.name in (first, f"{first}_train_lmdb", f"{first}_val_lmdb") and (here / "data.mdb").is_file():
            return (
                f"dataset.path={self.path} is an LMDB itself, and must be the folder that it lies in. Type "
                f"dataset.path={here.absolute().parent}."
            )
        remedy = (
            f"Fetch http://dl.yf.io/lsun/scenes/{first}_train_lmdb.zip and …/{first}_val_lmdb.zip, or for an object "
            f"http://dl.yf.io/lsun/objects/{first}.zip, unpack them into a folder and type dataset.path=<it>."
        )
        if self.path is None:
            return f"dataset=lsun needs the folder with its LMDBs. {remedy}"
        folders = [*self.folders("train"), *self.folders("val")]
        for folder in folders:
            if not (folder / "data.mdb").is_file():
                return f"dataset.path={self.path} has no {folder.name}/data.mdb. {remedy}"
        if len(set(self.categories)) < len(self.categories):
            return f"dataset.categories has {', '.join(self.categories)}, and one of them twice. Name each once."
        for folder in folders:
            with (folder / "data.mdb").open("rb") as file:
                if LMDB not in file.read(HEAD):
                    return f"{folder / 'data.mdb'} is no LMDB, or is damaged. Unpack {folder.name}.zip again."
        if find_spec("lmdb") is None:
            return "dataset=lsun reads LMDBs, and the package for it is not installed. Type pip install lmdb."
        return None


class HuggingFace(Pictures, target="hldm.data.huggingface"):
    """A data set on this disk as Hugging Face keeps it: parquet files, or what `save_to_disk` of datasets wrote."""

    path: UserPath | None = Field(
        default=None, description="its folder, which is needed", examples=["data/lsun-bedrooms"]
    )
    image: Word | None = Field(
        default=None,
        description="column of the pictures; null: image, img, or the only one that can be",
        examples=["image"],
    )
    label: Word | None = Field(
        default=None, description="column of the classes; null: label, or none", examples=["fine_label"]
    )
    validation_share: Annotated[Number, Ge(0), Lt(0.5)] = Field(
        default=0.05, description="share for choices, where the data set has no such part", examples=[0.1]
    )
    test_share: Annotated[Number, Ge(0.001), Lt(0.5)] = Field(
        default=0.1, description="share to judge by, where the data set has no such part", examples=[0.2]
    )

    @property
    def files(self) -> list[Path]:
        """Its files of rows, in the order of their names."""
        root = Path(self.path or "")
        found = (file for end in ("parquet", "arrow") for file in root.rglob(f"*.{end}") if file.is_file())
        return sorted(file for file in found if not file.name.startswith(("cache-", ".")))

    @property
    def columns(self) -> row_files.Columns:
        """Those of pictures and classes.

        Raises:
            UserError: the files have none, or not all of them have.
        """
        return row_files.columns(Path(self.path or ""), self.files, self.image, self.label)

    @property
    def has_validation(self) -> bool:
        return self.validation_share > 0

    def test_share_for(self, least: int, images: int) -> float | None:
        has_own = "test" in row_files.parts(Path(self.path or ""), self.files)
        return None if has_own else _enlarged(self.test_share, least, images)

    def by_content(self) -> dict[str, str]:
        if self.path is None or not self.files:
            return {}
        return {"path": picture_files.sampled_digest(self.files, Path(self.path))}

    def missing(self) -> str | None:
        """What is wrong with the folder, in a sentence; None where it can be read."""
        if self.path is None:
            return "dataset=huggingface needs a folder on this disk. Type dataset.path=<it>."
        root = Path(self.path)
        if not root.is_dir():
            folder = root.parent if root.is_file() else "<a folder with .parquet or .arrow files>"
            reason = "is a file" if root.is_file() else "is not there"
            return f"dataset.path={self.path} {reason}, and must be a folder. Type dataset.path={folder}."
        if not self.files:
            return (
                f"dataset.path={self.path} has no .parquet and no .arrow files. Fetch a data set, for example by "
                "`hf download --repo-type dataset <name> --local-dir <folder>`, and type dataset.path=<folder>."
            )
        if find_spec("pyarrow") is None:
            return "dataset=huggingface reads arrow files, and the package is not installed. Type pip install pyarrow."
        if said := row_files.badly_parted(root, self.files):
            return said
        try:
            self.columns  # noqa: B018 - what is wrong with them is raised
        except UserError as error:
            return str(error)
        return None
