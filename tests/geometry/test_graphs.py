"""torch.compile takes the geometry as one graph, forward and backward, for fixed and learned curvature."""

import pytest
import torch

from hldm.geometry import Euclidean, FixedCurvature, LearnableCurvature, Manifold, PoincareBall, ProductManifold


def everything(manifold: Manifold, v: torch.Tensor, w: torch.Tensor, t: torch.Tensor) -> list[torch.Tensor]:
    x, y = manifold.from_tangent(v, 1), manifold.from_tangent(w, 1)
    u = manifold.logmap(x, y, 1)
    rows = v.movedim(1, -1).flatten(1, 2)
    one = torch.ones(2, 1, 16)
    return [
        manifold.to_tangent(x, 1), manifold.expmap(x, u, 1), manifold.transport(x, y, u, 1), manifold.dist(x, y, 1),
        manifold.inner(x, u, u, 1), *manifold.geodesic(x, y, t, 1), manifold.add_normal(v, w, 1),
        manifold.log_volume(v, 1), manifold.saturation(x, 1), manifold.pairwise_sqdist(rows[0], rows[1] / 9),
        manifold.midpoint(rows, one),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "manifold",
    [
        PoincareBall(4, FixedCurvature(0.7), balls=2),
        PoincareBall(4, FixedCurvature(0.0)),
        ProductManifold([Euclidean(1), PoincareBall(3, LearnableCurvature(0.7))]),
    ],
)
def test_no_graph_breaks(manifold: Manifold) -> None:
    torch.compiler.reset()
    v, w = torch.randn(2, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.3, 0.8]).reshape(2, 1, 1, 1)  # one in each half of the geodesics
    # the backward graph, too, once: tracing it is slow
    backend = "aot_eager" if list(manifold.parameters()) else "eager"
    compiled = torch.compile(everything, fullgraph=True, backend=backend)
    results = []
    for f in (everything, compiled):
        at = v.clone().requires_grad_()
        outputs = f(manifold, at, w, t)
        gradients = torch.autograd.grad(sum(o.sum() for o in outputs), [at, *manifold.parameters()])
        results.append([*outputs, *gradients])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
