"""Embeddings on balls: Euclidean at c = 0 bit for bit, at the rate O(c) near it, bounded, another model beyond it."""

import geoopt
import pytest
import torch
from torch import nn

from hldm.conditioning import ClassConditioning, TextConditioning
from hldm.conditioning.hyperbolic import GyroplaneStem, point_table
from hldm.config import conditioning as config
from hldm.geometry import RADIUS, FixedCurvature
from hldm.nn import FromPoincare, Gyroplane, ToPoincare
from hldm.training import initialised
from tests.conditioning.test_text import DIGITS

CAPTIONS = ["a handwritten three", "the digit nine", ""]


def text(c=None):
    settings = config.TextConditioning(channels=16, hyperbolic=c is not None)
    curvature = None if c is None else FixedCurvature(c)
    return initialised(0, "x", lambda: TextConditioning(settings, class_names=DIGITS, curvature=curvature))


def stem(c, sizes=(16, 6)):
    torch.manual_seed(0)
    return (nn.Linear(*sizes) if c is None else GyroplaneStem(*sizes, FixedCurvature(c))).double()


def table():
    torch.manual_seed(0)
    return nn.Embedding(11, 16)


def test_text_at_curvature_zero_is_euclidean_bit_for_bit():
    results = []
    for c in (None, 0.0):
        model = text(c)
        hidden = model.encode(CAPTIONS).hidden
        hidden.square().sum().backward()
        results.append([hidden, *(p.grad for p in model.parameters()), *model.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_text_tends_to_the_euclidean_features_at_the_rate_of_c():
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    errors = [(stem(c)(x) - stem(None)(x)).abs().max().item() for c in (1e-4, 1e-6)]
    assert 90 < errors[0] / errors[1] < 110


def test_curvature_acts_on_the_features_of_a_text():
    """Lifting and coming back alone would change nothing."""
    flat, curved = text(0.0).encode(CAPTIONS).hidden, text(1.0).encode(CAPTIONS).hidden
    assert (flat - curved).abs().max() > 0.05


@pytest.mark.parametrize("c", [0.1, 1.0, 10.0])
def test_features_are_points_within_the_bound(c):
    """They are what ToPoincare with clipping makes of them, and far features have finite gradients."""
    x = (30 * torch.randn(5, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).requires_grad_()
    layer = stem(c)
    points = ToPoincare(layer.manifold, RADIUS / c**0.5)(x)
    assert (points.unflatten(-1, (2, 8)).norm(dim=-1) * c**0.5).max() < torch.tanh(torch.tensor(RADIUS / 2)) + 1e-9
    expected = Gyroplane.forward(layer, FromPoincare(layer.manifold)(points))
    torch.testing.assert_close(layer(x), expected)
    layer(x).sum().backward()
    assert x.grad.isfinite().all()


def test_a_flat_table_stays_the_table_it_was():
    embeddings = table()
    assert point_table(embeddings, FixedCurvature(0.0)) is embeddings
    assert ClassConditioning(config.ClassConditioning(), class_names=DIGITS).label_embedding(embeddings) is embeddings


@pytest.mark.parametrize("c", [1e-3, 1.0])
def test_label_embeddings_start_at_the_euclidean_ones(c):
    settings = config.ClassConditioning(hyperbolic=True)
    conditioning = ClassConditioning(settings, class_names=DIGITS, curvature=FixedCurvature(c))
    points = conditioning.label_embedding(table())
    assert sum(p.numel() for p in points.parameters()) == table().weight.numel()
    within = table().weight.unflatten(1, (2, 8)).norm(dim=-1) * c**0.5 < RADIUS
    assert within.any()
    ours = points(torch.arange(11)).unflatten(1, (2, 8))
    torch.testing.assert_close(ours[within], table().weight.unflatten(1, (2, 8))[within], rtol=2e-4, atol=2e-4)
    assert (ours.norm(dim=-1) * c**0.5).max() < RADIUS + 1e-2
    [weight] = points.weights
    assert isinstance(weight.manifold, geoopt.PoincareBall)
