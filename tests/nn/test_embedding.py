"""The hyperbolic embedding: Riemannian steps, limits, saving."""

import io

import geoopt
import pytest
import torch
from torch import nn

from hldm.geometry import Euclidean, FixedCurvature, LearnableCurvature, PoincareBall, ProductManifold
from hldm.nn import HyperbolicEmbedding


def seeded(factory):
    torch.manual_seed(0)
    return factory()


def test_euclidean_limit_including_a_gradient_step() -> None:
    index, target = (
        torch.arange(10),
        torch.randn(10, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
    )
    table = seeded(lambda: nn.Embedding(10, 4)).double()
    steps = {}
    for c in (None, 0.0, 1e-4, 1e-6):
        layer = (
            table
            if c is None
            else seeded(lambda c=c: HyperbolicEmbedding(10, PoincareBall(4, FixedCurvature(c)))).double()
        )
        optimizer = geoopt.optim.RiemannianSGD(layer.parameters(), lr=0.1)
        (layer(index) - target).square().sum().backward()
        optimizer.step()
        steps[c] = layer(index).detach()
    torch.testing.assert_close(steps[0.0], steps[None])
    errors = [(steps[c] - steps[None]).abs().max().item() for c in (1e-4, 1e-6)]
    assert 90 < errors[0] / errors[1] < 110


def test_riemannian_adam_brings_points_to_their_targets() -> None:
    manifold = ProductManifold([Euclidean(2), PoincareBall(4, FixedCurvature(1.0), balls=2)])
    layer = seeded(lambda: HyperbolicEmbedding(6, manifold, scale=0.1))
    target = manifold.from_tangent(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))
    optimizer = geoopt.optim.RiemannianAdam(layer.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss = manifold.sqdist(manifold.from_tangent(layer(torch.arange(6))), target).mean()
        loss.backward()
        optimizer.step()
    assert loss < 1e-2
    fresh = HyperbolicEmbedding(6, manifold)
    fresh.load_state_dict(layer.state_dict())
    assert fresh(torch.tensor([[1, 3]])).equal(layer(torch.tensor([[1, 3]])))
    assert fresh(torch.tensor([[1, 3]])).shape == (1, 2, 6)


def test_learned_curvature_is_refused() -> None:
    with pytest.raises(ValueError, match="fixed metric"):
        HyperbolicEmbedding(3, PoincareBall(4, LearnableCurvature(1.0)))


@pytest.mark.parametrize(
    "manifold",
    [
        PoincareBall(4, FixedCurvature(1.0), balls=2),
        ProductManifold([Euclidean(2), PoincareBall(2, FixedCurvature(1.0))]),
    ],
)
def test_compiled_under_autocast_and_restored_from_a_file(manifold) -> None:
    torch.compiler.reset()
    layer, index = seeded(lambda: HyperbolicEmbedding(5, manifold, scale=0.3)), torch.tensor([[0, 3], [4, 4]])
    expected = layer(index)
    # the start is the flat table's, so every geometry begins at the same points
    torch.testing.assert_close(expected, 0.3 * seeded(lambda: nn.Embedding(5, 4))(index), rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = torch.compile(layer, fullgraph=True, backend="eager")(index)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh = HyperbolicEmbedding(5, manifold)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert fresh(index).equal(expected)
