"""Labels are dropped at the given rate, and guidance is the formula it says it is."""

import torch

from hldm.conditioning import ClassConditioning, Guidance, Unconditional
from hldm.config import conditioning as config
from hldm.nn import Condition

LABELS = torch.arange(10).repeat(1000)
NAMES = tuple("0123456789")


def test_dropout_replaces_labels_by_no_label_at_its_rate():
    conditioning = ClassConditioning(config.ClassConditioning(dropout=0.2), class_names=NAMES)
    kept = conditioning.for_training(LABELS, torch.Generator().manual_seed(0)).labels
    dropped = kept == 10
    assert abs(dropped.float().mean() - 0.2) < 0.02
    assert torch.equal(kept[~dropped], LABELS[~dropped])
    whole = ClassConditioning(config.ClassConditioning(dropout=0.0), class_names=NAMES)
    assert torch.equal(whole.for_training(LABELS, torch.Generator()).labels, LABELS)


def test_guidance_extrapolates_from_the_unconditional_prediction():
    def predict(condition):
        return torch.where(condition.labels == 10, 1.0, 3.0)

    for scale, expected in [(0.0, 1.0), (1.0, 3.0), (1.5, 4.0), (3.0, 7.0)]:
        settings = config.ClassConditioning(guidance_scale=scale)
        guided = ClassConditioning(settings, class_names=NAMES).for_sampling(LABELS)(predict)
        torch.testing.assert_close(guided, torch.full_like(guided, expected))


def test_scale_one_asks_the_network_once():
    calls = []
    for scale in (1.0, 1.5):
        Guidance(Condition(), Condition(), scale)(lambda condition: calls.append(condition) or torch.zeros(1))
    assert len(calls) == 3


def test_unconditional_never_shows_a_label():
    conditioning = Unconditional(config.Unconditional(), class_names=NAMES)
    assert conditioning.for_training(LABELS, torch.Generator()).labels.unique().tolist() == [10]
    assert conditioning.for_sampling(LABELS)(lambda condition: condition.labels).unique().tolist() == [10]
    assert not conditioning.uses_labels
    assert ClassConditioning(config.ClassConditioning(), class_names=NAMES).uses_labels
