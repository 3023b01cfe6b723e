"""The synthetic tree has the shape and the variances that it claims."""

import pytest
import torch

from hldm.config.dataset import Branching
from hldm.data import branching
from hldm.data.branching import tree


def made(**settings):
    return branching(Branching(**settings))


def every_row(data):
    return torch.cat([data.train.first(), data.test.first()]), torch.cat([data.train.labels, data.test.labels])


def test_the_published_size():
    data = made()
    rows, labels = every_row(data)
    assert rows.shape == (635, 50)
    assert rows.dtype == torch.float32
    assert len(data.train) == 444
    assert len(data.validation) == 0
    assert data.image_shape == (50,)
    assert data.classes == 127
    assert not data.has_pictures
    assert labels.bincount().eq(5).all()
    torch.testing.assert_close(rows.mean(0), torch.zeros(50), rtol=0, atol=1e-5)
    torch.testing.assert_close(rows.std(0, correction=0), torch.ones(50), rtol=1e-5, atol=0)


def test_parents_and_depths():
    assert tree(2, 3).tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert tree(2, 1).tolist() == [0, 0, 1]
    assert tree(0, 2).tolist() == [0]
    depths = made().depths
    assert depths.bincount().tolist() == [1, 2, 4, 8, 16, 32, 64]


def test_the_seed_decides():
    first, same, other = (made(seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.train.first(), same.train.first())
    assert not torch.equal(first.train.first(), other.train.first())
    assert first.fingerprint == same.fingerprint != other.fingerprint


def test_variances_are_in_the_stated_ratio():
    data = made(dim=20_000, step_variance=2.0, noise_variance=0.5)
    rows, labels = every_row(data)
    rows = rows.double()
    means = torch.stack([rows[labels == node].mean(0) for node in range(127)])
    noise = (rows - means[labels]).square().mean() * 5 / 4  # of five siblings around their own mean
    steps = (means[1:] - means[data.parents[1:]]).square().mean() - 2 * noise / 5
    assert float(steps / noise) == pytest.approx(2.0 / 0.5, rel=0.05)
