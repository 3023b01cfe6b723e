"""A source that keeps nothing in memory gives what a tensor gives: batches, training, encodings, fingerprint."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from hldm.autoencoder import MLPAutoencoder
from hldm.config.autoencoder import MLP
from hldm.data import Dataset, InMemorySplit, Split
from hldm.data import dataset as module
from hldm.geometry import Euclidean
from hldm.images import mean_image, to_uint8, to_unit
from hldm.model import PriorModel
from hldm.training import FirstStage, encode
from tests.fake_data import in_memory, noise_digits


class FolderSplit(Split):
    """One file per image, read when it is asked for: a toy of what streams from a disk."""

    def __init__(self, folder: Path, labels: Tensor) -> None:
        self.folder, self.labels = folder, labels
        self.reads: list[int] = []

    def read(self, indices: Tensor) -> Tensor:
        self.reads.append(len(indices))
        files = [(self.folder / f"{index}.bin").read_bytes() for index in indices.tolist()]
        return torch.frombuffer(bytearray(b"".join(files)), dtype=torch.uint8).view(-1, 1, 28, 28)


@pytest.fixture(scope="module")
def model() -> PriorModel:
    section = MLP(latent_channels=2, hidden=4)
    return PriorModel(MLPAutoencoder(section, manifold=Euclidean(2), decoder_stem="linear", image_shape=(1, 28, 28)))


@pytest.fixture
def memory() -> Dataset:
    return noise_digits(25)


@pytest.fixture
def streamed(memory: Dataset, tmp_path: Path) -> Dataset:
    for index, image in enumerate(memory.train.first()):
        (tmp_path / f"{index}.bin").write_bytes(image.numpy().tobytes())
    split = FolderSplit(tmp_path, memory.train.labels)
    empty = FolderSplit(tmp_path, memory.train.labels[:0])
    return Dataset("other name", memory.image_shape, memory.class_names, train=split, validation=empty, test=split)


def test_batches_are_read_and_nothing_else(model: PriorModel, memory: Dataset, streamed: Dataset) -> None:
    losses = []
    for dataset in (memory, streamed):
        stage = FirstStage(model, dataset.train, seed=3, batch_size=4)
        losses.append([stage.loss(step)["loss"] for step in range(8)])  # past the end of an epoch
    assert losses[0] == losses[1]
    assert isinstance(streamed.train, FolderSplit)
    assert streamed.train.reads == [4] * 8


def test_encodings_and_the_mean_go_by_chunks(
    model: PriorModel, memory: Dataset, streamed: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = torch.tensor([1, 2, 5, 8, 24])
    for dataset in (memory, streamed):
        whole = encode(model, dataset.train.first())
        some = encode(model, dataset.train, chosen, batch_size=2)
        for all_rows, rows in zip(whole, some, strict=True):
            assert all_rows is not None
            assert rows is not None
            torch.testing.assert_close(rows, all_rows[chosen])
    monkeypatch.setattr(module, "NUMBERS_AT_ONCE", 10 * 784)
    assert isinstance(streamed.train, FolderSplit)
    streamed.train.reads.clear()
    exact = to_unit(memory.train.first()).double().mean(0)
    for dataset in (memory, streamed):
        torch.testing.assert_close(mean_image(dataset.train.chunks()), exact, rtol=0, atol=1e-7)
    assert torch.equal(mean_image(memory.train.chunks()), mean_image(streamed.train.chunks()))
    assert streamed.train.reads[:4] == [1, 10, 10, 5]  # one to see how large they are


def test_the_fingerprint_is_that_of_the_content(memory: Dataset, streamed: Dataset) -> None:
    assert memory.fingerprint == streamed.fingerprint
    images, labels = memory.train.first(), memory.train.labels
    others = [
        in_memory(images.flip(0), labels),
        in_memory(images, labels.flip(0)),
        in_memory(images, labels, classes=11),
        in_memory(images.view(-1, 1, 14, 56), labels),
    ]
    assert len({memory.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_what_a_split_knows_of_a_tree_and_of_dependence(memory: Dataset, streamed: Dataset) -> None:
    """Nothing, where nothing is said: every image is its own group, and its label is all there is."""
    for split in (memory.train, streamed.train):
        assert torch.equal(split.nodes, split.labels)
        assert split.groups.tolist() == list(range(25))
    nodes, groups = torch.arange(25) + 3, torch.arange(25) // 5
    images, labels = memory.train.first(), memory.train.labels
    known = InMemorySplit(images, labels, nodes, groups)
    for split in (known, known.to(torch.device("cpu"))):
        assert torch.equal(split.nodes, nodes)
        assert torch.equal(split.groups, groups)
    assert known.fingerprint != memory.train.fingerprint
    assert InMemorySplit(images, labels, groups=groups).fingerprint == memory.train.fingerprint


def test_a_split_in_memory_goes_to_a_device_once() -> None:
    split = noise_digits(5).train
    assert isinstance(split, InMemorySplit)
    moved = split.to(torch.device("meta"))
    assert moved.images.device.type == "meta"
    assert moved.read(torch.tensor([3, 1])).shape == (2, 1, 28, 28)
    assert torch.equal(moved.labels, split.labels)
    there = FolderSplit(Path(), torch.zeros(0))
    assert there.to(torch.device("meta")) is there


def test_first_and_chunks_know_where_the_images_end() -> None:
    split = noise_digits(5).train
    assert torch.equal(split.first(3), split.first()[:3])
    assert len(split.first(9)) == 5
    assert list(noise_digits(5).validation.chunks()) == []


def test_vectors_are_no_pictures() -> None:
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    vectors = in_memory(rows, torch.zeros(6, dtype=torch.long), classes=1)
    assert not vectors.has_pictures
    assert to_unit(rows) is rows
    assert torch.equal(mean_image(vectors.train.chunks()), rows.sum(0, dtype=torch.float64) / 6)


def test_bytes_survive_the_way_to_numbers_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_unit(pixels)), pixels)
    assert to_uint8(torch.tensor([-0.5, 1.5])).tolist() == [0, 255]
