"""Published data sets of small pictures, in archives that are known by their checksums."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le
from pydantic import Field

from hldm.config.base import Switch, UserPath, Whole
from hldm.config.dataset import Published

VALIDATION = "last training images that are set aside for choices"
OF_MNIST = tuple(f"{part}-{what}-ubyte.gz" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1"))
"""What MNIST's successors call their archives, as it does."""

Validation = Annotated[Whole, Ge(0), Le(40_000)]


class Archived(Published):
    """Pictures in published archives: of a folder, or fetched from where torchvision fetches them."""

    reads_files = True
    files: ClassVar[tuple[str, ...]] = ()
    """Names of the archives."""
    kept: ClassVar[str] = ""
    """Folder into which torchvision puts them."""

    folder: UserPath | None = Field(
        default=None, description="a folder with the archives; null: they are fetched", examples=["data"]
    )
    validation_images: Validation = Field(default=5000, description=VALIDATION, examples=[5000])
    flips: Switch = Field(default=False, description="whether training also sees each image in the mirror")

    @property
    def floor_images(self) -> int:
        """Classes are as often in both parts, but for chance: wherever validation is cut off, 90 % can be drawn."""
        return self.training_images * 9 // 10

    def unread(self) -> set[str]:
        return {"folder"}  # every archive is compared with the published one

    def missing(self) -> str | None:
        """What is wrong with the folder, in a sentence; None where nothing is, or archives are to be fetched."""
        if self.folder is None:
            return None
        root = Path(self.folder)
        if not root.is_dir():
            return f"dataset.folder={self.folder} is not a folder. Type one with the archives, or dataset.folder=null."
        lacking = [name for name in self.files if not any((root / part / name).is_file() for part in ("", self.kept))]
        if lacking:
            return (
                f"dataset.folder={self.folder} has no {', '.join(lacking)}. Type a folder with the archives, or "
                "dataset.folder=null, which fetches them."
            )
        return None


class FashionMNIST(Archived, target="hldm.data.fashion_mnist"):
    """Clothes of ten kinds, grey, 28 × 28 (Xiao et al. 2017)."""

    files = OF_MNIST
    kept = "FashionMNIST/raw"


class KMNIST(Archived, target="hldm.data.kmnist"):
    """Ten characters of old Japanese books, grey, 28 × 28 (Clanuwat et al. 2018)."""

    files = OF_MNIST
    kept = "KMNIST/raw"


class EMNIST(Archived, target="hldm.data.emnist"):
    """Handwritten letters and digits, grey, 28 × 28 (Cohen et al. 2017)."""

    files = ("gzip.zip",)
    kept = "EMNIST/raw"
    sizes: ClassVar[dict[str, tuple[int, int]]] = {
        "balanced": (112_800, 18_800),
        "byclass": (697_932, 116_323),
        "bymerge": (697_932, 116_323),
        "digits": (240_000, 40_000),
        "letters": (124_800, 20_800),
        "mnist": (60_000, 10_000),
    }

    split: Literal["balanced", "byclass", "bymerge", "digits", "letters", "mnist"] = Field(
        default="balanced", description="which of its parts: 47 classes, 62, 47, 10, 26 or 10"
    )

    @property
    def published(self) -> tuple[int, int]:
        return self.sizes[self.split]

    @property
    def floor_images(self) -> int:
        """byclass and bymerge have rare classes, of which the test images may have more by chance."""
        return self.training_images // (2 if self.split.startswith("by") else 1) * 9 // 10


class CIFAR10(Archived, target="hldm.data.cifar10"):
    """Photographs of ten kinds of things, 32 × 32 in colour (Krizhevsky 2009)."""

    size = (50_000, 10_000)
    files = ("cifar-10-python.tar.gz",)

    @property
    def image_side(self) -> int:
        return 32

    @property
    def image_channels(self) -> int:
        return 3


class CIFAR100(CIFAR10, target="hldm.data.cifar100"):
    """Photographs of 100 kinds of things in 20 groups, 32 × 32 in colour: a known tree of two levels."""

    files = ("cifar-100-python.tar.gz",)

    label_level: Literal["fine", "coarse"] = Field(
        default="fine", description="what the classes are: the 100 kinds, or their 20 groups"
    )
