"""FID of each class, where there are enough samples of it."""

import pytest
import torch
from torch import Generator

from hldm.errors import UserError
from hldm.metrics import class_distances, feature_metrics, frechet_distance
from hldm.metrics.references import Reference


def test_each_class_is_compared_with_itself() -> None:
    generator = Generator().manual_seed(0)
    real = torch.randn(600, 3, generator=generator, dtype=torch.float64)
    labels = torch.arange(600) % 3
    real = real + 5 * labels[:, None]
    samples = real.clone()
    samples[labels == 1] += 2.0
    found = class_distances(samples, labels, real, labels, ("zero", "one", "two"))
    assert list(found) == ["fid_class_zero", "fid_class_one", "fid_class_two"]
    assert found["fid_class_zero"] == pytest.approx(0, abs=1e-9)
    assert found["fid_class_one"] == pytest.approx(12, rel=1e-6)  # |(2, 2, 2)|²
    # classes that have changed places are invisible to FID
    swapped = torch.where(labels == 0, 2, torch.where(labels == 2, 0, labels))
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    assert class_distances(real, swapped, real, labels, "abc")["fid_class_a"] == pytest.approx(300, rel=0.1)


def test_too_few_of_a_class_are_refused_with_the_number() -> None:
    x, labels = torch.zeros(40, 8, dtype=torch.float64), torch.arange(40) % 4
    with pytest.raises(UserError, match=r"at least, one more .* and class b has 8\. Type metrics\.samples=36 or more"):
        class_distances(x, torch.where(torch.arange(40) > 31, 0, labels), x, labels, "abcd")
    with pytest.raises(UserError, match=r"9 reference images of each class.* class a has 0"):
        class_distances(x, labels, x, labels.clamp_min(1), "abcd")


def test_without_logits_there_is_no_inception_score() -> None:
    x = torch.randn(50, 3, generator=Generator().manual_seed(0), dtype=torch.float64)
    names = {"fid", "kid", "kid_subset_sd", "precision", "recall", "density", "coverage"}
    assert set(feature_metrics(x, None, Reference(x))) == names
    assert set(feature_metrics(x, x[:, :0], Reference(x))) == names
    assert set(feature_metrics(x, x, Reference(x))) == {*names, "inception_score", "inception_score_split_sd"}
