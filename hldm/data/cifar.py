"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from the archives of pickles that torchvision takes too.

A pickle can run what it likes. These are loaded when the archive around them has the published checksum, and only then.
"""

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision import datasets

from hldm.config.archives import CIFAR10, CIFAR100
from hldm.data.archives import Archive
from hldm.data.dataset import Dataset
from hldm.data.idx_archives import archived

TRAINING = {"cifar10": tuple(f"data_batch_{number}" for number in range(1, 6)), "cifar100": ("train",)}
TEST = {"cifar10": "test_batch", "cifar100": "test"}


def cifar10(settings: CIFAR10, *, cache: Path, readers: int = 0) -> Dataset:
    """60,000 photographs of ten kinds of things, 3 × 32 × 32.

    Args:
        settings: the folder with the archive, how many of the last training images are set aside, flips.
        cache: where the archive is fetched to; readers: not needed, as all is in memory.

    Raises:
        UserError: the archive is neither there nor to be fetched, or not the published one.
    """
    batches = _batches("cifar10", datasets.CIFAR10, settings, cache)
    train = [batches[name] for name in TRAINING["cifar10"]]
    test = batches[TEST["cifar10"]]
    names = [name.decode() for name in batches["batches.meta"][b"label_names"]]
    labels = torch.cat([torch.tensor(batch[b"labels"]) for batch in train])
    images = torch.cat([_images(batch) for batch in train])
    return archived("cifar10", settings, (images, labels), (_images(test), torch.tensor(test[b"labels"])), names, names)


def cifar100(settings: CIFAR100, *, cache: Path, readers: int = 0) -> Dataset:
    """60,000 photographs of 100 kinds of things, 3 × 32 × 32; as `cifar10`.

    The tree is root → 20 groups → 100 kinds, and every image lies at its kind.
    """
    batches = _batches("cifar100", datasets.CIFAR100, settings, cache)
    meta = batches["meta"]
    groups, kinds = (
        [name.decode().replace("_", " ") for name in meta[key]] for key in (b"coarse_label_names", b"fine_label_names")
    )
    of_kind = [0] * len(kinds)
    parts = []
    for batch in (batches["train"], batches["test"]):
        for fine, coarse in zip(batch[b"fine_labels"], batch[b"coarse_labels"], strict=True):
            of_kind[fine] = coarse
        fine, coarse = (torch.tensor(batch[key]) for key in (b"fine_labels", b"coarse_labels"))
        labels = fine if settings.label_level == "fine" else coarse
        parts.append((_images(batch), labels, 1 + len(groups) + fine))
    # nodes in the order root, groups, kinds
    parents = torch.tensor([0] + [0] * len(groups) + [1 + group for group in of_kind])
    names = kinds if settings.label_level == "fine" else groups
    words = [name.replace(",", "") for name in names]
    return archived("cifar100", settings, parts[0], parts[1], names, words, parents)


def _batches(option: str, theirs: Any, settings: CIFAR10, cache: Path) -> dict[str, Any]:
    """Member of the archive → what is pickled in it."""
    content = Archive(theirs.filename, theirs.tgz_md5, (theirs.url,)).content(option, settings.folder, cache)
    wanted = {*TRAINING[option], TEST[option], theirs.meta["filename"]}
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = {Path(member.name).name: archive.extractfile(member) for member in archive if member.isfile()}
        # the checksum of the whole was right
        return {name: pickle.load(file, encoding="bytes") for name, file in files.items() if file and name in wanted}


def _images(batch: dict[bytes, Any]) -> Tensor:
    """uint8 (N, 3, 32, 32): the planes of red, green and blue, row by row."""
    return torch.from_numpy(batch[b"data"]).reshape(-1, 3, 32, 32)
