"""The synthetic tree has the shape and the variances that it claims."""

import pytest
import torch

from hldm.config.dataset import Branching
from hldm.data import branching


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


def test_the_content_of_the_default_tree_stays_as_it_is():
    assert made().fingerprint == "26ea17eeeb921788143915418774a06f577427551ab398e511674e3c98c09283"


def test_a_class_is_a_node_and_so_is_a_group():
    data = made()
    assert data.depths.bincount().tolist() == [1, 2, 4, 8, 16, 32, 64]
    for split in (data.train, data.validation, data.test):
        assert torch.equal(split.nodes, split.labels)
        assert torch.equal(split.groups, split.nodes)


def test_labels_of_a_level_leave_the_tree_and_the_rows_as_they_are():
    data, coarse = made(), made(label_level=2)
    assert coarse.class_names == tuple("0123456")
    assert torch.equal(coarse.test.first(), data.test.first())
    assert torch.equal(coarse.test.nodes, data.test.nodes)
    assert torch.equal(coarse.parents, data.parents)
    assert torch.equal(coarse.test.labels, data.ancestors(2)[data.test.nodes])
    assert coarse.fingerprint != data.fingerprint
    assert made(label_level=6).fingerprint == data.fingerprint


def test_validation_is_taken_from_what_is_trained_on():
    data, parted = made(), made(validation_share=0.1)
    assert [len(split) for split in (parted.train, parted.validation, parted.test)] == [444 - 63, 63, 191]
    assert torch.equal(torch.cat([parted.train.first(), parted.validation.first()]), data.train.first())
    assert torch.equal(parted.test.first(), data.test.first())


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
