"""Tangent diffusion: with the exact denoiser of a Gaussian, DDIM reproduces that Gaussian."""

import pytest
import torch

from hldm.diffusion import DiffusionSampler, FlowMatching, TangentDDPM
from hldm.geometry import Euclidean, FixedCurvature, PoincareBall

DATA_SD = 0.5


def exact(process):
    """E[velocity | v_t] for data ~ N(0, DATA_SD²), from the process's own schedule."""

    def predict(v, t):
        alpha_bar = process.scheduler.alphas_cumprod[(t * process.train_steps).round().long()].view(-1, 1, 1, 1)
        total = alpha_bar * DATA_SD**2 + 1 - alpha_bar
        noise, data = (1 - alpha_bar).sqrt() * v / total, alpha_bar.sqrt() * DATA_SD**2 * v / total
        return alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * data

    return predict


@pytest.mark.parametrize("schedule", ["scaled_linear", "squaredcos_cap_v2"])
def test_the_exact_denoiser_of_a_gaussian_gives_that_gaussian_at_first_order(schedule):
    process, calls = TangentDDPM(schedule), []

    def predict(v, t):
        calls.append(t)
        return exact(process)(v, t)

    errors = []
    for steps in (25, 100):
        generator = torch.Generator().manual_seed(0)
        v = DiffusionSampler(steps).sample(process, Euclidean(4), predict, (2000, 4, 1, 1), generator)
        # relative to the noise it started from: the sampler is linear here, so the finite sample does not enter
        start = torch.randn(2000, 4, 1, 1, generator=torch.Generator().manual_seed(0))
        errors.append(abs((v.norm() / start.norm()).item() - DATA_SD))
    assert len(calls) == 125
    assert errors[1] < 0.03
    assert 2.5 < errors[0] / errors[1] < 5


def test_the_exact_denoiser_has_the_least_loss_and_the_geometry_does_not_enter():
    process = TangentDDPM("scaled_linear")
    v = DATA_SD * torch.randn(4000, 4, 1, 1, generator=torch.Generator().manual_seed(1))

    def loss(predict, manifold=Euclidean(4)):  # noqa: B008  # a constant
        return process.loss(manifold, predict, v, torch.Generator().manual_seed(2))

    best = loss(exact(process))
    for factor in (0.9, 1.1):
        assert loss(lambda v, t, factor=factor: factor * exact(process)(v, t)) > best
    assert torch.equal(best, loss(exact(process), PoincareBall(4, FixedCurvature(1.0))))


def test_it_does_not_run_another_process():
    with pytest.raises(TypeError, match="TangentDDPM"):
        DiffusionSampler(5).sample(
            FlowMatching("uniform"), Euclidean(4), lambda v, t: v, (1, 4, 1, 1), torch.Generator()
        )
