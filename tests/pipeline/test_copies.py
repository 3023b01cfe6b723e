"""Nearest training images of samples: figures and picture from tensors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hldm.data import Dataset, InMemorySplit
from hldm.metrics import DigitFeatures
from hldm.pipeline.copies import copy_metrics
from tests.fake_data import noise_digits


def dataset() -> Dataset:
    noise = noise_digits(400)
    images, labels = noise.train.first(), noise.train.labels
    train, test = InMemorySplit(images[:300], labels[:300]), InMemorySplit(images[300:], labels[300:])
    return Dataset("noise", noise.image_shape, noise.class_names, train=train, validation=test, test=test)


def test_copies_are_counted_and_drawn_above_what_they_copy(tmp_path: Path) -> None:
    data = dataset()
    training, fresh = data.train.first(), data.test.first()
    copies = training[40:44].clone()
    copies[:, :, 0, 0] ^= 1  # hardly to be seen
    samples = torch.cat([fresh[:50], copies])
    found = copy_metrics(samples, data, DigitFeatures(), cache=tmp_path, picture=tmp_path / "neighbours.png")
    # no cell has enough of 54 samples for the test of three samples
    names = ("memorisation_share", "memorisation_ratio")
    assert set(found) == {*names, *(f"{name}_pixels" for name in names)}
    assert found["memorisation_share_pixels"] == pytest.approx(4 / 54 + 0.05, abs=0.05)
    assert copy_metrics(copies, data, DigitFeatures(), cache=tmp_path)["memorisation_share"] == 1
    with Image.open(tmp_path / "neighbours.png") as picture:
        left, top, width, height, scale = map(int, picture.info["Grid"].split())
        # what stands beside the rows has its place at the left, and is there
        words = np.asarray(picture)[:, :left]
        drawn = torch.from_numpy(np.array(picture))[top : top + height : scale, left : left + width : scale]
    assert (words[: height // 2] < 100).sum() > 50
    assert (words[height // 2 :] < 100).sum() > 100
    # two rows of ten, with gaps of 2: the four copies come first, above what they copy
    for column in range(4):
        left = 30 * column + 2
        above, below = drawn[2:30, left : left + 28], drawn[32:60, left : left + 28]
        assert (above.int() - below.int()).abs().max() == 1
        assert any(torch.equal(below, image[0]) for image in training[40:44])
    assert list(tmp_path.glob("digits-*.safetensors"))
