"""Tangent diffusion: with the exact denoiser of a Gaussian, every sampler reproduces that Gaussian."""

from itertools import pairwise, product

import pytest
import torch
from diffusers import DDIMScheduler

from hldm.diffusion import DiffusionSampler, FlowMatching, TangentDDPM
from hldm.diffusion.tangent_ddpm import METHODS, PREDICTIONS, timesteps
from hldm.geometry import Euclidean, FixedCurvature, PoincareBall

DATA_SD = 0.5
SCHEDULES = ("scaled_linear", "squaredcos_cap_v2")
PROCESSES = [
    (schedule, prediction, zero_terminal_snr)
    for schedule, prediction, zero_terminal_snr in product(SCHEDULES, PREDICTIONS, (False, True))
    if not (prediction == "epsilon" and zero_terminal_snr)
]


def alpha_bars(process, t):
    return process.scheduler.alphas_cumprod[(t * process.train_steps).round().long()].view(-1, 1, 1, 1)


def exact(process, mean=0.0):
    """E[target | v_t] for data ~ N(mean, DATA_SD²), from the process's own schedule."""

    def predict(v, t):
        alpha_bar = alpha_bars(process, t)
        centred = (v - alpha_bar.sqrt() * mean) / (alpha_bar * DATA_SD**2 + 1 - alpha_bar)
        noise, data = (1 - alpha_bar).sqrt() * centred, mean + alpha_bar.sqrt() * DATA_SD**2 * centred
        velocity = alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * data
        return {"epsilon": noise, "x0": data, "v": velocity}[process.prediction]

    return predict


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("schedule", ["scaled_linear", "squaredcos_cap_v2"])
def test_the_exact_denoiser_of_a_gaussian_gives_that_gaussian_at_first_order(schedule):
    process, calls = TangentDDPM(schedule=schedule), []

    def predict(v, t):
        calls.append(t)
        return exact(process)(v, t)

    errors = []
    for steps in (25, 100):
        generator = torch.Generator().manual_seed(0)
        v = DiffusionSampler(steps=steps).sample(process, Euclidean(4), predict, (2000, 4, 1, 1), generator)
        # relative to the noise it started from: the sampler is linear here, so the finite sample does not enter
        start = torch.randn(2000, 4, 1, 1, generator=torch.Generator().manual_seed(0))
        errors.append(abs((v.norm() / start.norm()).item() - DATA_SD))
    assert len(calls) == 125
    assert errors[1] < 0.03
    assert 2.5 < errors[0] / errors[1] < 5


def test_the_exact_denoiser_has_the_least_loss_and_the_geometry_does_not_enter():
    process = TangentDDPM()
    v = DATA_SD * torch.randn(4000, 4, 1, 1, generator=torch.Generator().manual_seed(1))

    def loss(predict, manifold=Euclidean(4)):  # noqa: B008  # a constant
        return process.loss(manifold, predict, v, torch.Generator().manual_seed(2))

    best = loss(exact(process))
    for factor in (0.9, 1.1):
        assert loss(lambda v, t, factor=factor: factor * exact(process)(v, t)) > best
    assert torch.equal(best, loss(exact(process), PoincareBall(4, FixedCurvature(1.0))))


def test_it_does_not_run_another_process():
    with pytest.raises(TypeError, match="TangentDDPM"):
        DiffusionSampler(steps=5).sample(FlowMatching(), Euclidean(4), lambda v, t: v, (1, 4, 1, 1), torch.Generator())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("schedule", "prediction", "zero_terminal_snr"), PROCESSES)
def test_every_sampler_reproduces_mean_and_variance(schedule, prediction, zero_terminal_snr, method):
    process = TangentDDPM(schedule=schedule, prediction=prediction, zero_terminal_snr=zero_terminal_snr)
    predict = exact(process, mean=0.7)
    v = DiffusionSampler(method=method, steps=200).sample(process, Euclidean(4), predict, (4000, 4, 1, 1), generator())
    # 16,000 draws: standard errors .004 and .003; the rest is 200 steps
    assert v.mean().item() == pytest.approx(0.7, abs=0.015)
    assert v.std().item() == pytest.approx(DATA_SD, abs=0.025)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("schedule", "prediction", "zero_terminal_snr"), PROCESSES)
def test_mean_and_variance_are_right_for_any_number_of_steps(schedule, prediction, zero_terminal_snr, method):
    """Near 1,000 steps Euler meets steps with a larger σ than the first one, where the terminal SNR is zero."""
    process = TangentDDPM(schedule=schedule, prediction=prediction, zero_terminal_snr=zero_terminal_snr)
    predict = exact(process, mean=0.7)
    for steps in (50, 400, 667, 1000) if method == "euler" else (50, 1000):
        sampler = DiffusionSampler(method=method, steps=steps)
        v = sampler.sample(process, Euclidean(4), predict, (1000, 4, 1, 1), generator())
        # 4,000 draws: standard errors .008 and .006; the rest is an error of first order in the step
        assert v.mean().item() == pytest.approx(0.7, abs=0.03), steps
        assert v.std().item() == pytest.approx(DATA_SD, abs=0.02 + 2.5 / steps), steps


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ddim_with_noise_reproduces_mean_and_variance(eta):
    process = TangentDDPM()
    v = DiffusionSampler(method="ddim", steps=200, eta=eta).sample(
        process, Euclidean(4), exact(process, mean=0.7), (4000, 4, 1, 1), generator()
    )
    assert v.mean().item() == pytest.approx(0.7, abs=0.015)
    assert v.std().item() == pytest.approx(DATA_SD, abs=0.025)


@pytest.mark.parametrize(("method", "eta"), [*((method, 0.0) for method in METHODS), ("ddim", 0.5)])
def test_all_noise_is_the_generators(method, eta):
    process, state = TangentDDPM(), torch.random.get_rng_state()

    def draw(eta=eta, seed=0):
        sampler = DiffusionSampler(method=method, steps=10, eta=eta)
        return sampler.sample(process, Euclidean(4), exact(process), (3, 4, 2, 2), generator(seed))

    assert torch.equal(draw(), draw())
    assert not torch.equal(draw(), draw(seed=1))
    assert torch.equal(torch.random.get_rng_state(), state)
    if eta:
        assert not torch.equal(draw(), draw(eta=0.0))


def test_second_order_samplers_need_fewer_steps():
    process = TangentDDPM()
    start = torch.randn(2000, 4, 1, 1, generator=generator()).norm()

    def error(method):
        v = DiffusionSampler(method=method, steps=50).sample(
            process, Euclidean(4), exact(process), (2000, 4, 1, 1), generator()
        )
        return abs((v.norm() / start).item() - DATA_SD)

    for method in ("dpm_solver++", "unipc"):
        assert error(method) < 0.7 * error("ddim")


@pytest.mark.parametrize("min_snr_gamma", [None, 5.0])
@pytest.mark.parametrize(("schedule", "prediction", "zero_terminal_snr"), PROCESSES)
def test_every_combination_trains_and_samples_finite(schedule, prediction, zero_terminal_snr, min_snr_gamma):
    process = TangentDDPM(
        schedule=schedule, prediction=prediction, min_snr_gamma=min_snr_gamma, zero_terminal_snr=zero_terminal_snr
    )
    weight = torch.full((4, 4), 0.1, requires_grad=True)

    def predict(v, t):
        return torch.einsum("ij,bjhw->bihw", weight, v)

    v = torch.randn(2000, 4, 1, 1, generator=generator(1))
    loss = process.loss(Euclidean(4), predict, v, generator(2))
    loss.backward()
    assert loss.isfinite()
    assert weight.grad.isfinite().all()
    assert weight.grad.norm() > 0
    for method in METHODS:
        with torch.no_grad():
            drawn = DiffusionSampler(method=method, steps=7).sample(
                process, Euclidean(4), predict, (3, 4, 2, 2), generator()
            )
        assert drawn.isfinite().all(), method


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_predictions_are_reparametrisations_whose_losses_differ_by_the_weight_alone(schedule):
    """One estimate of the latent, read as ε, v or x0: errors SNR, SNR + 1 and 1 times that of the latent."""
    v = torch.randn(3000, 4, 1, 1, generator=generator(1))

    def loss(prediction, gamma):
        process = TangentDDPM(schedule=schedule, prediction=prediction, min_snr_gamma=gamma)

        def predict(noisy, t):
            alpha_bar = alpha_bars(process, t)
            # off by more where there is more noise, so that an estimate of ε stays of order one
            x0 = v + 0.3 * ((1 - alpha_bar) / alpha_bar).sqrt() * torch.sin(noisy)
            noise = (noisy - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
            velocity = alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * x0
            return {"epsilon": noise, "x0": x0, "v": velocity}[prediction]

        return process.loss(Euclidean(4), predict, v, generator(2)).item()

    weighted = [loss(prediction, 5.0) for prediction in PREDICTIONS]
    assert weighted == pytest.approx([weighted[0]] * 3, rel=2e-3)
    unweighted = [loss(prediction, None) for prediction in PREDICTIONS]
    assert len({round(value, 3) for value in unweighted}) == 3


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_loss_is_weighted_by_min_snr(prediction):
    process, gamma = TangentDDPM(prediction=prediction, min_snr_gamma=5.0), 5.0
    steps = torch.tensor([0, 100, 300, 700, 999])
    alpha_bar = process.scheduler.alphas_cumprod[steps]
    snr = alpha_bar / (1 - alpha_bar)
    assert snr[0] > gamma > snr[-1]
    divisor = {"x0": 1, "epsilon": snr, "v": snr + 1}[prediction]
    weight = process.min_snr_weight(steps, gamma)
    torch.testing.assert_close(weight, torch.minimum(snr, torch.tensor(gamma)) / divisor)

    # the loss of a prediction that is wrong by 1 everywhere is the mean weight
    v, g = torch.randn(64, 4, 1, 1, generator=generator(1)), generator(2)
    noise = torch.randn(v.shape, generator=g)
    drawn = torch.randint(1000, (64,), generator=g)
    loss = process.loss(Euclidean(4), lambda *_: process.target(v, noise, drawn) + 1, v, generator(2))
    torch.testing.assert_close(loss, process.min_snr_weight(drawn, gamma).mean())


@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_min_snr_trains_the_step_of_zero_snr_too(prediction):
    process = TangentDDPM(prediction=prediction, min_snr_gamma=5.0, zero_terminal_snr=True)
    assert process.scheduler.alphas_cumprod[999] == 0
    assert process.min_snr_weight(torch.tensor([999]), 5.0).tolist() == [1.0]


def test_min_snr_leaves_noise_prediction_unweighted_where_gamma_is_large():
    v, predict = torch.randn(64, 4, 1, 1, generator=generator(1)), torch.sin

    def loss(gamma):
        process = TangentDDPM(prediction="epsilon", min_snr_gamma=gamma)
        return process.loss(Euclidean(4), lambda x, t: predict(x), v, generator(2))

    torch.testing.assert_close(loss(1e9), loss(None))
    assert loss(5.0) < loss(None)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_terminal_snr_is_zero_where_asked_for(schedule):
    usual, zero = (
        TangentDDPM(schedule=schedule, zero_terminal_snr=flag).scheduler.alphas_cumprod for flag in (False, True)
    )
    assert usual[-1] > 0
    assert zero[-1] == 0
    assert zero[:-1].min() > 0
    torch.testing.assert_close(zero[0], usual[0])
    noise, v = torch.randn(1, 4, 1, 1, generator=generator()), torch.ones(1, 4, 1, 1)
    noisy = TangentDDPM(schedule=schedule, zero_terminal_snr=True).scheduler.add_noise(v, noise, torch.tensor([999]))
    assert torch.equal(noisy, noise)


def test_what_cannot_work_is_refused():
    """The configuration says it to a user; whoever writes Python is stopped too."""
    for make in (
        lambda: TangentDDPM(prediction="epsilon", zero_terminal_snr=True),
        lambda: DiffusionSampler(method="plms", steps=5),
        lambda: DiffusionSampler(method="euler", steps=5, eta=0.5),
        lambda: DiffusionSampler(steps=5, spacing="karras"),
    ):
        with pytest.raises(AssertionError):
            make()
    with pytest.raises(KeyError):
        TangentDDPM(prediction="velocity")


def test_noise_prediction_on_the_cosine_schedule_needs_a_sampler_that_forgets():
    """Why the configuration refuses the others: 1 % too much noise, divided by √ᾱ_T = 5e-5."""
    process = TangentDDPM(schedule="squaredcos_cap_v2", prediction="epsilon")
    sd = {
        method: DiffusionSampler(method=method, steps=50)
        .sample(process, Euclidean(4), lambda v, t: 1.01 * exact(process)(v, t), (500, 4, 1, 1), generator())
        .std()
        .item()
        for method in METHODS
    }
    assert sd.pop("ddpm") == pytest.approx(DATA_SD, abs=0.05)
    assert min(sd.values()) > 1.5 * DATA_SD


SPACINGS = ("trailing", "leading", "linspace", "quadratic")


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("n", [1, 2, 7, 50, 400, 667, 999, 1000])
def test_a_spacing_visits_different_steps_of_the_schedule_in_order(spacing, n):
    steps = timesteps(spacing, n)
    assert len(steps) == n
    assert all(a > b for a, b in pairwise(steps))
    assert steps[-1] >= 0
    assert steps[0] == (999 if spacing != "leading" else 1000 - -(-1000 // n))  # leading: noise that is not yet pure
    if n > 1:
        assert steps[-1] == (0 if spacing != "trailing" else round(1000 / n) - 1)
    if spacing == "quadratic" and n == 50:
        assert steps[:3] == [999, 959, 919]
        assert steps[-3:] == [2, 1, 0]


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ddim_is_that_of_diffusers_where_its_steps_have_a_whole_length(spacing, eta, prediction):
    process, g = TangentDDPM(prediction=prediction), generator()
    predict = exact(process, mean=0.7)
    ours = DiffusionSampler(steps=20, eta=eta, spacing=spacing).sample(
        process, Euclidean(4), predict, (50, 4, 1, 1), generator()
    )
    scheduler = DDIMScheduler.from_config(process.scheduler.config, timestep_spacing=spacing)
    scheduler.set_timesteps(20)
    assert scheduler.timesteps.tolist() == timesteps(spacing, 20)
    v = torch.randn(50, 4, 1, 1, generator=g)
    for step in scheduler.timesteps:
        output = predict(v, torch.full((50,), step.item() / 1000))
        v = scheduler.step(output, step, v, eta=eta, generator=g).prev_sample
    torch.testing.assert_close(ours, v, rtol=1e-4, atol=1e-4)


def spread(method, spacing, steps, sd, schedule="scaled_linear"):
    """The standard deviation of samples with the exact predictor of N(0, sd²), as a share of sd.

    Without noise on the way the sampler is linear, so it is compared with the noise that it started from.
    """
    process = TangentDDPM(schedule=schedule)

    def predict(v, t):
        alpha_bar = alpha_bars(process, t)
        noise = (1 - alpha_bar).sqrt()
        return alpha_bar.sqrt() * noise * (1 - sd**2) * v / (alpha_bar * sd**2 + noise.square())

    sampler = DiffusionSampler(method=method, steps=steps, spacing=spacing)
    shape = (20_000 if method == "ddpm" else 10, 1, 1, 1)
    v = sampler.sample(process, Euclidean(1), predict, shape, generator())
    start = 1.0 if method == "ddpm" else torch.randn(shape, generator=generator()).norm() / shape[0] ** 0.5
    return (v.norm() / shape[0] ** 0.5 / start).item() / sd


SPREADS = {  # share of the standard deviation .3 that is left with 20 and with 50 steps
    "ddim": {"trailing": (0.68, 0.83), "leading": (0.75, 0.87), "linspace": (0.74, 0.87), "quadratic": (0.91, 0.96)},
    "ddpm": {"trailing": (0.66, 0.79), "leading": (0.67, 0.79), "linspace": (0.66, 0.79), "quadratic": (0.84, 0.92)},
    "dpm_solver++": {"trailing": (0.71, 0.86), "leading": (1.11, 1.08), "linspace": (1.11, 1.08),
                     "quadratic": (1.02, 1.0)},
    "unipc": {"trailing": (0.71, 0.86), "leading": (1.11, 1.08), "linspace": (1.11, 1.08), "quadratic": (1.01, 0.99)},
    "euler": {"trailing": (0.68, 0.83), "leading": (0.75, 0.87), "linspace": (0.74, 0.87), "quadratic": (0.91, 0.96)},
}  # fmt: skip


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("method", METHODS)
def test_the_spread_of_a_gaussian_that_a_sampler_keeps(method, spacing):
    """From noise of the last step to the data: what is lost is the length of the steps where the noise is small."""
    found = [spread(method, spacing, steps, 0.3) for steps in (20, 50)]
    assert found == pytest.approx(SPREADS[method][spacing], abs=0.02 if method == "ddpm" else 0.006)
    assert spread(method, spacing, 1000, 0.3) == pytest.approx(0.99, abs=0.02)  # the schedule ends at σ = .039


@pytest.mark.parametrize("sd", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("method", METHODS)
def test_steps_that_are_short_near_the_data_lose_least(method, sd):
    lost = {spacing: abs(1 - spread(method, spacing, 50, sd)) for spacing in SPACINGS}
    assert min(lost, key=lost.get) == "quadratic"


@pytest.mark.parametrize("steps", [3, 400, 667])
def test_ddim_takes_any_number_of_steps(steps):
    """That of diffusers steps back by 1000 // steps: 400 steps of length 2 would cover 800 of 1000."""
    process = TangentDDPM()
    predict = exact(process, mean=0.7)
    v = DiffusionSampler(steps=steps).sample(process, Euclidean(4), predict, (2000, 4, 1, 1), generator())
    assert v.mean().item() == pytest.approx(0.7, abs=0.02)


def test_the_ends_of_the_schedule_are_settings():
    betas = TangentDDPM(beta_start=0.00085, beta_end=0.012).scheduler.betas
    torch.testing.assert_close(betas[[0, -1]], torch.tensor([0.00085, 0.012]))
