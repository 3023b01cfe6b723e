"""Points and ordinary parameters in one model: the limit of small curvature, Riemannian norms, averages, resuming."""

from functools import partial

import pytest
import torch
from torch import nn

from hldm.geometry import FixedCurvature, PoincareBall
from hldm.nn import HyperbolicEmbedding
from hldm.training.ema import Ema
from hldm.training.loop import Stage, train
from hldm.training.optimizer import Optimizer
from hldm.training.randomness import initialised, stream

INDEX = torch.arange(5)
TARGET = torch.randn(5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
ADAM = partial(torch.optim.AdamW, lr=0.05, betas=(0.8, 0.9))


def embedding(c, balls=2):
    return initialised(0, "x", lambda: HyperbolicEmbedding(5, PoincareBall(8, FixedCurvature(c), balls))).double()


def test_small_curvature_is_adam_with_a_second_moment_per_ball_at_the_rate_of_c():
    """Against Adam written out, with gradients of one length per ball of dimension 4, clipped to norm 0.5."""
    v = embedding(1e-9)(INDEX).detach().view(5, 2, 4)
    mean, square = torch.zeros_like(v), torch.zeros(5, 2, 1, dtype=torch.float64)
    for step in range(1, 6):
        gradient = 2 * (v - TARGET.view(5, 2, 4))
        gradient *= 0.5 / gradient.norm()
        mean = 0.8 * mean + 0.2 * gradient
        square = 0.9 * square + 0.1 * gradient.square().sum(-1, keepdim=True)
        v = v - 0.05 * 4**0.5 * (mean / (1 - 0.8**step)) / (square / (1 - 0.9**step)).sqrt()

    errors = []
    for c in (1e-3, 1e-5):
        layer = embedding(c)
        optimizer = Optimizer([*layer.parameters(), nn.Parameter(torch.zeros(1))], ADAM)
        optimizer.set_rate(0.05)
        for _ in range(5):
            optimizer.zero_grad()
            (layer(INDEX) - TARGET).square().sum().backward()
            optimizer.clip(0.5)
            optimizer.step()
        errors.append((layer(INDEX) - v.flatten(1)).abs().max().item())
    assert 80 < errors[0] / errors[1] < 120


def test_the_gradient_is_measured_where_the_points_are():
    """|grad|² = Σ (1 − c|x|²)²/4 · |∂f|² over points, plus what ordinary parameters have."""
    layer, linear = embedding(0.7), nn.Linear(8, 1).double()
    optimizer = Optimizer([*layer.parameters(), *linear.parameters()], ADAM)
    linear(layer(INDEX)).square().sum().backward()
    [x] = layer.weights
    share = (1 - 0.7 * x.square().sum(-1, keepdim=True)) / 2
    expected = ((share * x.grad).square().sum() + sum(p.grad.square().sum() for p in linear.parameters())).sqrt()
    before = [p.grad.clone() for p in optimizer.parameters]
    torch.testing.assert_close(optimizer.clip(1e-2), expected.detach(), rtol=1e-5, atol=0)
    for p, gradient in zip(optimizer.parameters, before, strict=True):
        torch.testing.assert_close(p.grad, gradient * 1e-2 / expected.item(), rtol=1e-4, atol=0)


def test_ordinary_parameters_do_what_they_did_without_points():
    results = []
    for points in ([], list(embedding(1.0).parameters())):
        linear = initialised(0, "linear", lambda: nn.Linear(8, 1)).double()
        optimizer = Optimizer([*points, *linear.parameters()], ADAM)
        for _ in range(3):
            optimizer.zero_grad()
            linear(TARGET).square().sum().backward()
            optimizer.step()
        results.append(linear.weight.detach())
    assert torch.equal(*results)


def test_the_average_of_points_goes_along_the_geodesic():
    layer = embedding(0.7)
    model = nn.ModuleList([layer, nn.Linear(1, 1)])
    ema = Ema(model, 0.9)
    [x], [average] = layer.weights, ema.model[0].weights
    with torch.no_grad():
        x.copy_(x.manifold.expmap(x, 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double()))
    ball, start = x.manifold, average.detach().clone()
    ema.update(model)  # the first one keeps a tenth
    torch.testing.assert_close(ball.dist(average, x), 0.1 * ball.dist(start, x), rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(ball.dist(start, average), 0.9 * ball.dist(start, x), rtol=1e-4, atol=1e-8)
    assert not average.requires_grad


class Embedding(Stage):
    """Points and a linear layer; `stop_at` raises there, as a kill would."""

    name = "embedding"

    def __init__(self, stop_at=None):
        self.model = initialised(
            0,
            "net",
            lambda: nn.Sequential(HyperbolicEmbedding(5, PoincareBall(8, FixedCurvature(1.0), 2)), nn.Linear(8, 1)),
        )
        self.stop_at = stop_at

    def loss(self, step):
        if step == self.stop_at:
            raise KeyboardInterrupt
        target = torch.randn(5, 1, generator=stream(0, "x", step))
        return {"loss": (self.model(INDEX) - target).square().mean()}


@pytest.mark.parametrize("stop_at", [5, 8])
def test_a_stage_with_points_goes_on_bit_for_bit(tmp_path, stop_at):
    def run(stage, name):
        return train(
            stage,
            steps=12,
            make_optimizer=ADAM,
            schedule="cosine",
            clip_norm=0.1,
            ema_decay=0.9,
            state_path=tmp_path / name,
            checkpoint_every=4,
            log_every=1,
            on_start=lambda step: None,
            log=lambda step, figures: None,
        )

    straight = run(Embedding(), "a.pt")
    with pytest.raises(KeyboardInterrupt):
        run(Embedding(stop_at), "b.pt")
    resumed = run(Embedding(), "b.pt")
    untrained = Embedding().model.state_dict()
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
        assert not torch.equal(value, untrained[name]), name
