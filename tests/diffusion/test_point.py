"""Denoisers of a point: they learn, they use all that they are told, and a map and a point see each other."""

import pytest
import torch
from torch import nn

from hldm.config import diffusion as config
from hldm.diffusion import CrossAttentionDenoiser, FlowMatching, FlowSampler, MapGlobalDenoiser, MLPDenoiser
from hldm.geometry import Euclidean, FixedCurvature, Packing, PoincareBall, ProductManifold, map_and_point
from hldm.layout import LatentLayout
from hldm.nn import Condition
from hldm.training import initialised

BOTH = LatentLayout.of_both(PoincareBall(4, FixedCurvature(1.0)), (4, 4), PoincareBall(3, FixedCurvature(1.0)))
POINT = LatentLayout.of_point(Euclidean(3))
T = torch.tensor([0.2, 0.5, 0.9])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def perturbed(model):
    """With the layers that start at zero away from it."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator())
    return model


def mlp(context_channels=None):
    settings = config.MLPDenoiser(width=16, blocks=2)
    return perturbed(MLPDenoiser(settings, layout=POINT, classes=10, context_channels=context_channels))


def attending(context_channels=None):
    settings = config.CrossAttention(width=16)
    return perturbed(CrossAttentionDenoiser(settings, layout=POINT, classes=10, context_channels=context_channels))


def both(context_channels=None):
    settings = config.MapGlobal(block_channels=(32, 32), head_channels=16, width=16, blocks=2)
    return perturbed(MapGlobalDenoiser(settings, layout=BOTH, classes=10, context_channels=context_channels))


def condition(kind, seed=0):
    if kind == "label":
        return Condition(labels=torch.arange(3) + seed)
    hidden = torch.randn(3, 5, 16, generator=generator(seed))
    return Condition(hidden=hidden, mask=torch.tensor([[True] * n + [False] * (5 - n) for n in (1, 3, 5)]))


@pytest.mark.parametrize("kind", ["label", "text"])
@pytest.mark.parametrize("make", [mlp, attending, both])
@torch.no_grad()
def test_time_condition_and_latent_change_the_prediction(make, kind):
    model = make(16 if kind == "text" else None)
    v = torch.randn(3, BOTH.dimension if make is both else 3, generator=generator())
    base = model(v, T, condition(kind))
    assert base.shape == v.shape
    for other in (
        model(v, T / 2, condition(kind)),
        model(v, T, condition(kind, seed=1)),
        model(v + 0.5, T, condition(kind)),
    ):
        assert (other - base).abs().amax(1).min() > 1e-4


@pytest.mark.parametrize("make", [mlp, attending])
@torch.no_grad()
def test_padding_is_not_read(make):
    model, one = make(16), condition("text")
    noise = torch.randn(one.hidden.shape, generator=generator(3))
    other = Condition(hidden=torch.where(one.mask.unsqueeze(2), one.hidden, noise), mask=one.mask)
    v = torch.randn(3, 3, generator=generator())
    assert torch.equal(model(v, T, one), model(v, T, other))


@torch.no_grad()
def test_map_and_point_see_each_other():
    model = both()
    of_map, of_point = torch.randn(3, 4, 4, 4, generator=generator()), torch.randn(3, 3, generator=generator(1))
    base = BOTH.unpack(model(BOTH.pack(of_map, of_point), T, condition("label")))
    map_moved = BOTH.unpack(model(BOTH.pack(of_map + of_map.flip(0), of_point), T, condition("label")))
    point_moved = BOTH.unpack(model(BOTH.pack(of_map, of_point + 1), T, condition("label")))
    assert (map_moved[1] - base[1]).abs().amax(1).min() > 1e-5
    assert (point_moved[0] - base[0]).abs().flatten(1).amax(1).min() > 1e-5


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(MLPDenoiser, config.MLPDenoiser(width=16)), (CrossAttentionDenoiser, config.CrossAttention(width=16))],
)
def test_blocks_start_as_the_identity(kind, settings):
    model = initialised(0, "denoiser", lambda: kind(settings, layout=POINT, classes=10))
    v = torch.randn(3, 3, generator=generator())
    torch.testing.assert_close(model(v, T, condition("label")), model.last(model.first(v)))


def test_an_mlp_learns_a_distribution_on_a_ball():
    """Two points of H², one per label: after training, each label's samples are near its own."""
    ball = PoincareBall(2, FixedCurvature(1.0))
    places = torch.tensor([[1.2, 0.4], [-0.9, -1.1]])
    settings, layout = config.MLPDenoiser(width=32, blocks=2), LatentLayout.of_point(ball)
    model = initialised(0, "denoiser", lambda: MLPDenoiser(settings, layout=layout, classes=2))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    process, g = FlowMatching(time="uniform"), generator()
    for _ in range(250):
        labels = torch.randint(2, (128,), generator=g)
        v = places[labels] + 0.1 * torch.randn(128, 2, generator=g)
        loss = process.loss(ball, lambda x, t, y=labels: model(x, t, Condition(labels=y)), v, g)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    labels = torch.arange(200) % 2
    with torch.no_grad():
        v = FlowSampler(method="midpoint", steps=10).sample(
            process, ball, lambda x, t: model(x, t, Condition(labels=labels)), (200, 2), generator(1)
        )
    for label in (0, 1):
        own = v[labels == label]
        assert (own.mean(0) - places[label]).norm() < 0.15
        assert own.std(0).max() < 0.35


@pytest.mark.parametrize("pairing", ["independent", "optimal_transport"])
def test_with_one_part_empty_the_loss_is_that_of_the_other_layout(pairing):
    """One division by all coordinates: neither part's loss is weighed by what the other has."""
    process = FlowMatching(time="logit_normal", pairing=pairing)
    of_map, point = PoincareBall(4, FixedCurvature(1.0)), PoincareBall(3, FixedCurvature(1.0))

    def loss(manifold, channels):
        v = torch.randn(8, channels, generator=generator())
        return process.loss(manifold, lambda x, t: 0.3 * x * t[:, None], v, generator(1))

    only_map = map_and_point(of_map, (2, 2), PoincareBall(0, FixedCurvature(1.0)))
    only_point = ProductManifold([PoincareBall(0, FixedCurvature(1.0)), point])
    assert torch.equal(loss(only_map, 16), loss(of_map.repeated(4), 16))
    assert torch.equal(loss(only_point, 3), loss(point, 3))


def test_a_packed_map_has_the_loss_of_the_map(monkeypatch):
    """With equal noise at equal places: the vector is only another way to write the map."""
    manifold = ProductManifold([Euclidean(1), PoincareBall(3, FixedCurvature(0.5))])
    packing, packed = Packing(manifold, (2, 2), 0), map_and_point(manifold, (2, 2), Euclidean(0))
    v = torch.randn(6, 4, 2, 2, generator=generator(), dtype=torch.float64)
    noise = manifold.from_tangent(torch.randn(v.shape, generator=generator(1), dtype=torch.float64), 1)
    nothing = v.new_zeros(6, 0)
    process = FlowMatching(time="uniform")
    monkeypatch.setattr(manifold, "random", lambda *a, **k: noise)
    monkeypatch.setattr(packed, "random", lambda *a, **k: packing.pack(noise, nothing))
    one = process.loss(manifold, lambda x, t: 0.3 * x, v, generator(2))
    other = process.loss(packed, lambda x, t: 0.3 * x, packing.pack(v, nothing), generator(2))
    torch.testing.assert_close(one, other)
