"""Fashion-MNIST, KMNIST and EMNIST: MNIST's successors, in its format."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision import datasets

from hldm.config.archives import EMNIST, Archived
from hldm.config.picture_files import place
from hldm.data.archives import Archive, of_mirrors, unpacked
from hldm.data.dataset import Dataset, InMemorySplit
from hldm.data.idx import parse_idx
from hldm.data.streamed import MirroredSplit


def fashion_mnist(settings: Archived, *, cache: Path, readers: int = 0) -> Dataset:
    """70,000 clothes of ten kinds, 1 × 28 × 28 (Xiao, Rasul & Vollgraf 2017).

    Args:
        settings: the folder with the archives, how many of the last training images are set aside, flips.
        cache: where archives are fetched to; readers: not needed, as all is in memory.

    Raises:
        UserError: an archive is neither there nor to be fetched, or not the published one.
    """
    theirs = datasets.FashionMNIST
    archives = of_mirrors(theirs.resources, theirs.mirrors, settings.kept)
    contents = [
        unpacked(archive.content("fashion_mnist", settings.folder, cache), archive.name) for archive in archives
    ]
    words = [name.lower().replace("/", " ") for name in theirs.classes]
    return in_parts("fashion_mnist", settings, contents, theirs.classes, words)


def kmnist(settings: Archived, *, cache: Path, readers: int = 0) -> Dataset:
    """70,000 characters of old Japanese books, 1 × 28 × 28 (Clanuwat et al. 2018); as `fashion_mnist`."""
    theirs = datasets.KMNIST
    archives = of_mirrors(theirs.resources, theirs.mirrors, settings.kept)
    contents = [unpacked(archive.content("kmnist", settings.folder, cache), archive.name) for archive in archives]
    return in_parts("kmnist", settings, contents, theirs.classes, theirs.classes)


def emnist(settings: EMNIST, *, cache: Path, readers: int = 0) -> Dataset:
    """Handwritten letters and digits, 1 × 28 × 28 (Cohen, Afshar, Tapson & van Schaik 2017); as `fashion_mnist`.

    They are published on their side, rows for columns, and set upright here. The test images of some parts are
    published letter by letter, and mixed here, as the first ones are taken for a sample of them.
    """
    theirs = datasets.EMNIST
    archive = Archive("gzip.zip", theirs.md5, (theirs.url,), settings.kept)
    content = archive.content("emnist", settings.folder, cache)
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        names = [
            f"emnist-{settings.split}-{part}" for part in ("train-images", "train-labels", "test-images", "test-labels")
        ]
        files = [f"gzip/{name}-idx{3 if 'images' in name else 1}-ubyte.gz" for name in names]
        contents = [unpacked(packed.read(file), file) for file in files]
    classes = [name for name in theirs.classes_split_dict[settings.split] if name != "N/A"]
    words = [f"{'capital ' if name.isupper() else ''}{name.lower()}" for name in classes]
    return in_parts("emnist", settings, contents, classes, words, is_lying=True, is_mixed=True)


def in_parts(
    name: str,
    settings: Archived,
    contents: Sequence[bytes],
    classes: Sequence[str],
    words: Sequence[str],
    *,
    is_lying: bool = False,
    is_mixed: bool = False,
) -> Dataset:
    """The data set of four files in MNIST's format: training images and labels, test images and labels.

    Args:
        is_lying: whether rows are columns; is_mixed: whether the order of the test images is made a random one.
    """
    train, train_labels, test, test_labels = (parse_idx(content) for content in contents)
    train, test = ((images.mT.contiguous() if is_lying else images).unsqueeze(1) for images in (train, test))
    if is_mixed:
        order = torch.tensor(sorted(range(len(test)), key=lambda row: place(str(row))))
        test, test_labels = test[order], test_labels[order]
    first = int(train_labels.min())  # 1 of letters
    return archived(
        name, settings, (train, train_labels.long() - first), (test, test_labels.long() - first), classes, words
    )


def archived(
    name: str,
    settings: Archived,
    train: tuple[Tensor, ...],
    test: tuple[Tensor, ...],
    classes: Sequence[str],
    words: Sequence[str],
    parents: Tensor | None = None,
) -> Dataset:
    """A data set in memory, whose last training images are for validation.

    Args:
        train: images, labels and, where there is a tree, nodes; test: likewise.
    """
    kept = len(train[0]) - settings.validation_images
    plain = InMemorySplit(*(part[:kept] for part in train))
    return Dataset(
        name=name,
        image_shape=tuple(train[0].shape[1:]),
        class_names=tuple(classes),
        train=MirroredSplit(plain) if settings.flips else plain,
        validation=InMemorySplit(*(part[kept:] for part in train)),
        test=InMemorySplit(*test),
        class_words=tuple(words),
        parents=parents,
    )
