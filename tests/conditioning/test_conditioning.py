"""Labels are dropped at the given rate, and guidance is the formula it says it is."""

import torch

from hldm.conditioning import ClassConditioning, Unconditional

LABELS = torch.arange(10).repeat(1000)


def test_dropout_replaces_labels_by_no_label_at_its_rate():
    kept = ClassConditioning(0.2, 1.5).for_training(LABELS, 10, torch.Generator().manual_seed(0))
    dropped = kept == 10
    assert abs(dropped.float().mean() - 0.2) < 0.02
    assert torch.equal(kept[~dropped], LABELS[~dropped])
    assert torch.equal(ClassConditioning(0.0, 1.5).for_training(LABELS, 10, torch.Generator()), LABELS)


def test_guidance_extrapolates_from_the_unconditional_prediction():
    def predict(ids):
        return torch.where(ids == 10, 1.0, 3.0)

    for scale, expected in [(0.0, 1.0), (1.0, 3.0), (1.5, 4.0), (3.0, 7.0)]:
        guided = ClassConditioning(0.1, scale).guide(predict, LABELS, 10)
        torch.testing.assert_close(guided, torch.full_like(guided, expected))


def test_scale_one_asks_the_network_once():
    calls = []
    ClassConditioning(0.1, 1.0).guide(lambda ids: calls.append(ids) or ids, LABELS, 10)
    ClassConditioning(0.1, 1.5).guide(lambda ids: calls.append(ids) or ids.float(), LABELS, 10)
    assert len(calls) == 3


def test_unconditional_never_shows_a_label():
    conditioning = Unconditional()
    assert conditioning.for_training(LABELS, 10, torch.Generator()).unique().tolist() == [10]
    assert conditioning.guide(lambda ids: ids, LABELS, 10).unique().tolist() == [10]
    assert not conditioning.uses_labels
    assert ClassConditioning(0.1, 1).uses_labels
