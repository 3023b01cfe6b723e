"""Muon: what a step does to a matrix, to a kernel and to a bias, and that it is resumed bit for bit."""

from functools import partial

import pytest
import torch
from torch import nn

from hldm.training import Muon
from hldm.training.loop import Stage, train
from hldm.training.muon import STEP_SIZE, orthogonal
from hldm.training.randomness import initialised, stream


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("shape", [(24, 24), (8, 60), (60, 8), (1, 7)])
def test_a_matrix_keeps_its_directions_and_loses_its_singular_values(shape):
    matrix = normal(*shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.T @ orthogonal(matrix) @ v.T
    values = turned.diag()
    torch.testing.assert_close(turned, values.diag(), atol=1e-9, rtol=0)
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_the_first_step_is_the_orthogonal_gradient_beside_the_decay():
    """W ← (1 − ηλ)W − η · k √max(m, n) · orthogonal(G): the momentum starts at 0, and its length does not matter."""
    weight, gradient = normal(6, 40), normal(6, 40, seed=1)
    parameter = nn.Parameter(weight.clone())
    parameter.grad = gradient.clone()
    Muon([parameter], 0.1, weight_decay=0.5).step()
    expected = 0.95 * weight - 0.1 * STEP_SIZE * 40**0.5 * orthogonal(gradient)
    torch.testing.assert_close(parameter.detach(), expected, rtol=1e-6, atol=1e-8)


def test_the_momentum_is_nesterovs():
    gradients = [normal(6, 40, seed=seed) for seed in range(3)]
    parameter = nn.Parameter(torch.zeros(6, 40, dtype=torch.float64))
    optimizer = Muon([parameter], 0.1, momentum=0.8, weight_decay=0.0)
    mean, expected = torch.zeros(6, 40, dtype=torch.float64), torch.zeros(6, 40, dtype=torch.float64)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        mean = 0.8 * mean + 0.2 * gradient
        expected = expected - 0.1 * STEP_SIZE * 40**0.5 * orthogonal(0.8 * mean + 0.2 * gradient)
    torch.testing.assert_close(parameter.detach(), expected, rtol=1e-9, atol=1e-12)


def test_a_kernel_is_the_matrix_of_its_output_channels():
    weight, gradient = normal(4, 3, 2, 2), normal(4, 3, 2, 2, seed=1)
    kernel, matrix = nn.Parameter(weight.clone()), nn.Parameter(weight.flatten(1).clone())
    kernel.grad, matrix.grad = gradient.clone(), gradient.flatten(1).clone()
    optimizer = Muon([kernel, matrix], 0.1)
    optimizer.step()
    assert torch.equal(kernel.detach().flatten(1), matrix.detach())
    assert not torch.equal(kernel.detach(), weight)


def test_other_weights_are_moved_by_adamw():
    ours, theirs = (nn.Parameter(normal(7)) for _ in range(2))
    muon = Muon([ours], 0.05, betas=(0.8, 0.9), weight_decay=0.1)
    adamw = torch.optim.AdamW([theirs], 0.05, betas=(0.8, 0.9), weight_decay=0.1)
    for seed in range(4):
        ours.grad, theirs.grad = normal(7, seed=seed), normal(7, seed=seed)
        muon.step()
        adamw.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


class Layers(Stage):
    """A convolution and a normalisation; `stop_at` raises there, as a kill would."""

    name = "layers"

    def __init__(self, stop_at=None):
        self.model = initialised(0, "net", lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)))
        self.stop_at = stop_at

    def loss(self, step):
        if step == self.stop_at:
            raise KeyboardInterrupt
        images = torch.randn(3, 2, 6, 6, generator=stream(0, "x", step))
        return {"loss": (self.model(images) - images[:, :1, 1:-1, 1:-1]).square().mean()}


def test_a_stage_goes_on_bit_for_bit(tmp_path):
    def run(stage, name):
        return train(
            stage,
            steps=12,
            make_optimizer=partial(Muon, lr=0.05),
            schedule="cosine",
            clip_norm=0.1,
            ema_decay=0.9,
            state_path=tmp_path / name,
            checkpoint_every=4,
            log_every=1,
            on_start=lambda step: None,
            log=lambda step, figures: None,
        )

    straight = run(Layers(), "a.pt")
    with pytest.raises(KeyboardInterrupt):
        run(Layers(9), "b.pt")
    resumed = run(Layers(), "b.pt")
    untrained = Layers().model.state_dict()
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
        assert not torch.equal(value, untrained[name]), name
