"""Classes as often as the reference has them."""

import pytest
import torch

from hldm.errors import UserError
from hldm.metrics import class_counts, draw_like, labels_like

LABELS = torch.tensor([0] * 50 + [1] * 30 + [2] * 15 + [4] * 5)
"""Class 3 has no image."""


@pytest.mark.parametrize("n", [1, 2, 7, 10, 99, 100, 1003])
def test_every_class_has_its_share(n: int) -> None:
    exact = LABELS.bincount() * n / 100
    counts = class_counts(LABELS, n)
    assert counts.sum() == n
    assert counts[3] == 0
    assert (counts - exact).abs().max() < 1


def test_whole_shares_are_met_and_the_order_is_always_the_same() -> None:
    labels = labels_like(LABELS, 40)
    assert labels.bincount().tolist() == [20, 12, 6, 0, 2]
    assert torch.equal(labels, labels_like(LABELS, 40))
    assert len(labels[:10].unique()) > 1  # a batch has several classes


def test_real_images_have_the_labels_that_samples_were_asked_for() -> None:
    wanted, there = labels_like(LABELS, 40), torch.arange(5).repeat(100)
    draw = draw_like(wanted, there, seed=0)
    assert len(draw.unique()) == 40
    assert torch.equal(there[draw].bincount(), wanted.bincount())
    assert torch.equal(draw, draw_like(wanted, there, seed=0))
    assert not torch.equal(draw, draw_like(wanted, there, seed=1))


def test_too_few_images_of_a_class_are_refused() -> None:
    with pytest.raises(UserError, match=r"class 0 than the training set has.*At most 20 samples"):
        draw_like(labels_like(LABELS, 40), torch.arange(5).repeat(10), seed=0)
    with pytest.raises(UserError, match=r"class 4 .* At most 0"):
        draw_like(labels_like(LABELS, 40), torch.arange(4).repeat(100), seed=0)
