"""Riemannian flow matching: its target, its pairing, its samplers, its Euclidean limit."""

from itertools import permutations

import pytest
import torch
from scipy.stats import kstest

from hldm.diffusion import FlowMatching, FlowSampler
from hldm.diffusion.flow import class_pairing, optimal_pairing
from hldm.distributions import WrappedNormal
from hldm.geometry import Euclidean, FixedCurvature, PoincareBall, ProductManifold

SHAPE = (8, 4, 2, 2)


def ball(c, channels=4):
    return PoincareBall(channels, FixedCurvature(c))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def latents(dtype=torch.float64, shape=SHAPE):
    return torch.randn(shape, generator=generator(1), dtype=dtype)


def loss(manifold, v, predict, time="uniform"):
    return FlowMatching(time=time).loss(manifold, predict, v, generator(2))


def test_the_loss_of_the_exact_conditional_velocity_is_zero():
    """With one data point the marginal field is the conditional one: log_x(x1) / (1 − t)."""
    manifold, v1 = ball(0.7), latents()[:1].expand(SHAPE)
    x1 = manifold.from_tangent(v1, dim=1)

    def exact(v, t):
        x = manifold.from_tangent(v, dim=1)
        u = manifold.logmap(x, x1, dim=1) / (1 - t.double().view(-1, 1, 1, 1))
        return manifold.to_frame(x, u, dim=1)

    assert loss(manifold, v1, exact) < 1e-9
    assert loss(manifold, v1, lambda v, t: 1.1 * exact(v, t)) > 1e-3


def test_at_c_zero_the_loss_is_euclidean_flow_matching_bit_for_bit():
    v = latents(torch.float32)
    x0 = torch.randn(SHAPE, generator=(g := generator(2)))
    t = torch.rand(len(v), generator=g)
    x_t = x0 + t.view(-1, 1, 1, 1) * (v - x0)

    def predict(x, t):
        return 0.3 * x + t.view(-1, 1, 1, 1)

    expected = (predict(x_t, t) - (v - x0)).square().mean()
    flat = loss(Euclidean(4), v, predict)
    torch.testing.assert_close(flat, expected, rtol=1e-6, atol=0)
    assert torch.equal(flat, loss(ball(0.0), v, predict))
    empty = PoincareBall(0, FixedCurvature(1.0))
    assert torch.equal(flat, loss(ProductManifold([Euclidean(4), empty]), v, predict))


def test_hybrid_without_flat_channels_is_poincare_bit_for_bit():
    v = latents(torch.float32)
    hybrid = ProductManifold([Euclidean(0), ball(0.5)])
    assert torch.equal(loss(ball(0.5), v, lambda x, t: x), loss(hybrid, v, lambda x, t: x))


def test_the_loss_converges_to_the_euclidean_one_at_rate_c():
    v = latents()
    flat = loss(Euclidean(4), v, lambda x, t: 0.3 * x)
    gaps = [abs(loss(ball(c), v, lambda x, t: 0.3 * x) - flat).item() for c in (1e-3, 1e-5)]
    assert 50 < gaps[0] / gaps[1] < 200


def test_rescaling_latents_with_their_curvature_changes_nothing():
    """(v, c) and (v/s, c·s²) are the same manifold in other units: geodesic points scale by 1/s."""
    s, v = 2.5, latents()
    points = {}
    for scale in (1.0, s):
        manifold = ball(0.7).rescaled(scale)
        x0 = manifold.from_tangent(latents().flip(0) / scale, dim=1)
        x_t, u_t = manifold.geodesic(x0, manifold.from_tangent(v / scale, dim=1), torch.tensor(0.3), dim=1)
        points[scale] = scale * manifold.to_tangent(x_t, dim=1), scale * manifold.to_frame(x_t, u_t, dim=1)
    torch.testing.assert_close(points[1.0], points[s], rtol=1e-9, atol=1e-9)


METHODS = ("euler", "midpoint", "heun", "rk4", "adaptive")


def samples(manifold, method):
    def predict(v, t):
        return torch.sin(2 * v) - t.view(-1, 1, 1, 1)

    sampler = FlowSampler(method=method, steps=4, tolerance=1e-3)
    return sampler.sample(FlowMatching(time="uniform"), manifold, predict, SHAPE, generator(3)), sampler.evaluations


@pytest.mark.parametrize("method", METHODS)
def test_samples_at_c_zero_or_with_an_empty_ball_are_euclidean_bit_for_bit(method):
    flat, evaluations = samples(Euclidean(4), method)
    empty = ProductManifold([Euclidean(4), PoincareBall(0, FixedCurvature(1.0))])
    for manifold in (ball(0.0), PoincareBall(4, FixedCurvature(0.0), balls=2), empty):
        same, count = samples(manifold, method)
        assert torch.equal(flat, same)
        assert count == evaluations
    assert not torch.allclose(flat, samples(ball(1.0), method)[0], atol=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_samples_of_a_hybrid_without_flat_channels_are_those_of_the_ball_bit_for_bit(method):
    hybrid = ProductManifold([Euclidean(0), ball(0.5)])
    assert torch.equal(samples(ball(0.5), method)[0], samples(hybrid, method)[0])


@pytest.mark.parametrize("method", METHODS)
def test_samples_converge_to_the_euclidean_ones_with_c(method):
    flat = samples(Euclidean(4), method)[0]
    near = (samples(ball(1e-4), method)[0] - flat).norm() / flat.norm()
    assert near < 1e-3


def test_all_methods_draw_the_same_samples_where_the_steps_are_small():
    exact = FlowSampler(method="rk4", steps=60)
    for manifold in (Euclidean(4), ball(1.0)):
        ends = [
            sampler.sample(FlowMatching(time="uniform"), manifold, lambda v, t: torch.sin(2 * v), SHAPE, generator(3))
            for sampler in (
                exact,
                FlowSampler(method="midpoint", steps=60),
                FlowSampler(method="adaptive", steps=4, tolerance=1e-5),
            )
        ]
        for end in ends[1:]:
            torch.testing.assert_close(end, ends[0], atol=2e-3, rtol=0)


def test_what_a_residual_leaves_of_normal_latents_has_unit_variance_at_all_times():
    """F = 0 is then the best prediction: what is left is 1/D on average, and E 1/D = π/2 for uniform times."""
    seen = []

    def predict(v, t):
        seen.append((v, t))
        return torch.zeros_like(v)

    v = torch.randn(40000, 4, 1, 1, generator=generator(1))
    process = FlowMatching(prediction="residual", time="uniform")
    assert process.loss(Euclidean(4), predict, v, generator(2)).item() == pytest.approx(torch.pi / 2, rel=0.01)
    [(inputs, t)] = seen
    for early in (t < 0.2, (t > 0.4) & (t < 0.6), t > 0.8):
        assert inputs[early].std().item() == pytest.approx(1, rel=0.02)
    plain = loss(Euclidean(4), v, lambda v, t: torch.zeros_like(v))
    assert plain.item() == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("manifold", [Euclidean(4), ball(1.0), ProductManifold([Euclidean(2), ball(1.0, 2)])])
def test_without_a_residual_samples_are_the_noise_itself(manifold):
    """The share of x_t alone moves every point along its radius, and back to where it was at t = 1."""
    noise = manifold.to_tangent(manifold.random(SHAPE, 1.0, generator(3), dim=1), dim=1)
    residual = FlowMatching(prediction="residual")
    sampler = FlowSampler(method="rk4", steps=40)
    end = sampler.sample(residual, manifold, lambda v, t: torch.zeros_like(v), SHAPE, generator(3))
    torch.testing.assert_close(end, noise, atol=1e-4, rtol=1e-4)
    velocity = residual.velocity(manifold, lambda v, t: torch.zeros_like(v), noise, 0.3)
    torch.testing.assert_close(velocity, -0.4 / 0.58 * noise, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("manifold", [Euclidean(4), ball(1.0)])
def test_a_residual_and_the_velocity_that_it_makes_are_one_process(manifold):
    """Loss, samples and velocity of F are those of w = (2t − 1)/D v + F(v/√D, t)/√D, predicted as it is."""

    def inner(v, t):
        return torch.sin(2 * v) - t.view(-1, 1, 1, 1)

    def outer(v, t):
        t = t.view(-1, 1, 1, 1)
        d = t**2 + (1 - t) ** 2
        return (2 * t - 1) / d * v + inner(v / d**0.5, t.flatten()) / d**0.5

    residual, velocity = FlowMatching(prediction="residual"), FlowMatching()
    v = latents(torch.float32)
    ours = residual.loss(manifold, inner, v, generator(2))
    torch.testing.assert_close(ours, velocity.loss(manifold, outer, v, generator(2)), rtol=1e-5, atol=0)
    assert not torch.isclose(ours, velocity.loss(manifold, inner, v, generator(2)), rtol=1e-3)
    sampler = FlowSampler(steps=3)
    ends = (sampler.sample(p, manifold, f, SHAPE, generator(3)) for p, f in ((residual, inner), (velocity, outer)))
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-4)


def test_a_residual_at_c_zero_is_that_of_flat_space_bit_for_bit():
    process, v = FlowMatching(prediction="residual"), latents(torch.float32)
    flat, same, curved = (
        process.loss(manifold, lambda v, t: torch.sin(v), v, generator(2))
        for manifold in (Euclidean(4), ball(0.0), ball(1.0))
    )
    assert torch.equal(flat, same)
    assert not torch.isclose(flat, curved, rtol=1e-3)


def test_the_time_distribution_is_the_one_asked_for():
    seen = {}
    for time in ("uniform", "logit_normal"):

        def predict(v, t, time=time):
            seen[time] = t
            return v

        FlowMatching(time=time).loss(Euclidean(1), predict, torch.zeros(20000, 1, 1, 1), generator())
    assert seen["uniform"].std() == pytest.approx(12**-0.5, rel=0.02)
    assert torch.logit(seen["logit_normal"]).std() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(
    "manifold",
    [Euclidean(4), ball(1.0), ProductManifold([Euclidean(2), ball(1.0, 2)])],
    ids=["flat", "ball", "product"],
)
def test_optimal_transport_makes_the_squared_distances_of_the_batch_smallest(manifold):
    """Against all permutations of five; d² adds up over positions and factors."""
    x, y = (manifold.from_tangent(v[:5], dim=1) for v in (latents(), latents().flip(0)))

    def cost(permutation):
        return manifold.sqdist(x, y[list(permutation)], dim=1).sum().item()

    chosen = optimal_pairing(manifold, x, y).tolist()
    assert sorted(chosen) == list(range(5))
    assert cost(chosen) == pytest.approx(min(map(cost, permutations(range(5)))))
    assert cost(chosen) < cost(range(5))


def paired_loss(manifold, pairing, v, predict):
    return FlowMatching(time="uniform", pairing=pairing).loss(manifold, predict, v, generator(2))


def test_optimal_transport_leaves_the_latents_in_their_places_and_shortens_the_paths():
    """In flat space u_t = (x_1 − x_t)/(1 − t), row by row, only if x_1 is the latent of that row, as its label is."""
    v, seen = latents(torch.float32), {}
    for pairing in ("independent", "optimal_transport"):

        def predict(x_t, t, pairing=pairing):
            u = (v - x_t) / (1 - t.view(-1, 1, 1, 1))
            seen[pairing] = u.square().mean()
            return u

        assert paired_loss(Euclidean(4), pairing, v, predict) < 1e-9
    assert seen["optimal_transport"] < seen["independent"]


def test_optimal_transport_keeps_the_limits_bit_for_bit():
    v = latents(torch.float32)

    def value(manifold):
        return paired_loss(manifold, "optimal_transport", v, lambda x, t: 0.3 * x)

    empty_ball = ProductManifold([Euclidean(4), PoincareBall(0, FixedCurvature(1.0))])
    assert torch.equal(value(Euclidean(4)), value(ball(0.0)))
    assert torch.equal(value(Euclidean(4)), value(empty_ball))
    assert torch.equal(value(ball(0.5)), value(ProductManifold([Euclidean(0), ball(0.5)])))
    assert not torch.equal(value(ball(0.5)), loss(ball(0.5), v, lambda x, t: 0.3 * x))


def noise_of_classes(labels_count, told, pairing="optimal_transport", batches=300):
    """The noise that each class is trained with, 1-D: latents of class k of K at 2k − K + 1, batches of 12.

    In flat space x_0 = (x_t − t·x_1)/(1 − t).
    """
    process, g = FlowMatching(time="uniform", pairing=pairing), generator(5)
    labels = torch.arange(12) % labels_count
    v = (2 * labels - labels_count + 1).float().view(-1, 1, 1, 1)
    v = v + 0.1 * torch.randn(v.shape, generator=g)
    found = []

    def predict(x_t, t):
        t = t.view(-1, 1, 1, 1)
        found.append(((x_t - t * v) / (1 - t)).flatten())
        return x_t

    for _ in range(batches):
        process.loss(Euclidean(1), predict, v, g, labels if told else None)
    noise = torch.stack(found)
    return [noise[:, labels == label].flatten() for label in range(labels_count)]


@pytest.mark.parametrize("classes", [2, 5, 12])
def test_given_the_label_the_noise_of_training_is_the_prior(classes):
    """Kolmogorov and Smirnov against the normal law, class by class; 12 classes have one latent each."""
    for noise in noise_of_classes(classes, told=True):
        assert kstest(noise.numpy(), "norm").pvalue > 0.01 / classes


def test_paired_across_classes_it_would_not_be():
    """Why a model that is told labels pairs within them: each class would see the noise on its side."""
    for noise, side in zip(noise_of_classes(2, told=False), (-1, 1), strict=True):
        assert kstest(noise.numpy(), "norm").pvalue < 1e-6
        assert (side * noise > 0).double().mean() > 0.8
    together = torch.cat(noise_of_classes(2, told=False))
    assert kstest(together.numpy(), "norm").pvalue > 0.01  # which is all that a model without labels needs


def test_within_a_class_the_squared_distances_are_smallest():
    manifold, labels = ball(1.0), torch.tensor([0, 1, 0, 1, 0, 2, 1, 0])
    x, y = manifold.from_tangent(latents(), dim=1), manifold.from_tangent(latents().flip(0), dim=1)
    chosen = class_pairing(manifold, x, y, labels)
    assert sorted(chosen.tolist()) == list(range(8))
    assert torch.equal(labels[chosen], labels)
    for label in range(3):
        own = (labels == label).nonzero().flatten()
        costs = [manifold.sqdist(x[own], y[own[list(p)]], dim=1).sum().item() for p in permutations(range(len(own)))]
        assert manifold.sqdist(x[own], y[chosen[own]], dim=1).sum().item() == pytest.approx(min(costs))


def test_the_prior_has_the_scale_of_scaled_latents():
    """σ₀² = E|v|²/n; the model divides latents by their root mean square, so σ₀ = 1 fits."""
    v = 3.7 * latents()
    scaled = v / v.square().mean().sqrt()
    x0 = ball(0.8).random((20000, 4, 1, 1), FlowMatching.prior_scale, generator(), dim=1)
    prior = ball(0.8).to_tangent(x0, dim=1).square().mean()
    assert prior.item() == pytest.approx(scaled.square().mean().item(), rel=0.02)


def test_unknown_choices_are_refused():
    """The configuration names the choices to a user; whoever writes Python is stopped too, not given another one."""
    for make in (
        lambda: FlowSampler(method="rk45", steps=3),
        lambda: FlowMatching(time="cosine"),
        lambda: FlowMatching(pairing="sinkhorn"),
        lambda: FlowMatching(prediction="noise"),
    ):
        with pytest.raises(AssertionError):
            make()


@pytest.mark.parametrize(("method", "evaluations"), [("euler", 6), ("midpoint", 12), ("heun", 12), ("rk4", 24)])
def test_network_evaluations_are_counted(method, evaluations):
    calls = []
    sampler = FlowSampler(method=method, steps=6)
    sampler.sample(FlowMatching(time="uniform"), Euclidean(4), lambda v, t: calls.append(t) or v, SHAPE, generator())
    assert len(calls) == sampler.evaluations == evaluations


def test_the_evaluations_of_adaptive_steps_are_those_of_the_last_call():
    calls, sampler = [], FlowSampler(method="adaptive", steps=4, tolerance=1e-4)
    assert sampler.evaluations == 0
    for seed in (0, 1):
        calls.clear()
        sampler.sample(
            FlowMatching(time="uniform"),
            ball(1.0),
            lambda v, t: calls.append(t) or torch.sin(v),
            SHAPE,
            generator(seed),
        )
        assert len(calls) == sampler.evaluations > 4


SPACES = {"flat": Euclidean(4), "ball": ball(1.0), "product": ProductManifold([Euclidean(2), ball(1.0, 2)])}


@pytest.mark.parametrize("manifold", SPACES.values(), ids=SPACES.keys())
def test_a_posterior_that_is_the_prior_has_nothing_to_move(manifold):
    """Where the encoder says nothing, a draw is its own noise, and rest is the exact velocity."""
    noise = latents(torch.float32)
    process = FlowMatching(pairing="posterior")
    still = process.loss(manifold, lambda v, t: torch.zeros_like(v), noise, generator(2), None, noise)
    assert still < 1e-10
    independent = FlowMatching().loss(manifold, lambda v, t: torch.zeros_like(v), noise, generator(2))
    assert independent > 1


@pytest.mark.parametrize("manifold", SPACES.values(), ids=SPACES.keys())
def test_a_path_of_the_posterior_leads_from_its_noise_to_its_draw(manifold):
    """Whoever moves to the draw and knows it makes no error; whoever takes the noise for another does."""
    noise = latents()
    law = WrappedNormal(manifold, latents().flip(0), 0.4, dim=1)
    v, seen = law.draw(noise).v, []

    def exact(x_t, t):
        seen.append((x_t, t))
        t = t.double().view(-1, 1, 1, 1)
        x = manifold.from_tangent(x_t, dim=1)
        return manifold.to_frame(x, manifold.logmap(x, manifold.from_tangent(v, dim=1), dim=1) / (1 - t), dim=1)

    assert FlowMatching(pairing="posterior").loss(manifold, exact, v, generator(2), None, noise) < 1e-6
    [(x_t, t)] = seen
    x0, x1 = manifold.from_tangent(noise, dim=1), manifold.from_tangent(v, dim=1)
    along = manifold.geodesic(x0, x1, t.double().view(-1, 1, 1, 1), dim=1)[0]
    torch.testing.assert_close(x_t, manifold.to_tangent(along, dim=1), atol=1e-6, rtol=1e-6)


def test_the_posterior_keeps_the_limits_bit_for_bit():
    v, noise = latents(torch.float32), latents(torch.float32).flip(0)
    process = FlowMatching(prediction="residual", pairing="posterior")
    process.fit_pairing(noise, v + noise)

    def value(manifold):
        return process.loss(manifold, lambda x, t: torch.sin(x), v, generator(2), None, noise)

    empty_ball = ProductManifold([Euclidean(4), PoincareBall(0, FixedCurvature(1.0))])
    assert torch.equal(value(Euclidean(4)), value(ball(0.0)))
    assert torch.equal(value(Euclidean(4)), value(empty_ball))
    assert not torch.isclose(value(Euclidean(4)), value(ball(1.0)), rtol=1e-3)


@pytest.mark.parametrize("scale", [0.3, 0.8])
def test_what_a_residual_leaves_knows_the_pairing(scale):
    """Latents m + sε that start from ε: jointly normal, so F = 0 is exact, and it leaves (1 − ρ²)/D of the target."""
    seen = []

    def predict(v, t):
        seen.append((v, t))
        return torch.zeros_like(v)

    noise = torch.randn(40000, 4, 1, 1, generator=generator(1))
    v = (1 - scale**2) ** 0.5 * torch.randn(noise.shape, generator=generator(4)) + scale * noise
    process = FlowMatching(prediction="residual", time="uniform", pairing="posterior")
    process.fit_pairing(noise, v)
    assert process.correlation.item() == pytest.approx(scale, abs=0.01)
    t = torch.linspace(0, 1, 10001, dtype=torch.float64)
    left = ((1 - scale**2) / (1 - 2 * t * (1 - t) * (1 - scale))).mean().item()
    assert process.loss(Euclidean(4), predict, v, generator(2), None, noise).item() == pytest.approx(left, rel=0.01)
    [(inputs, t)] = seen
    for early in (t < 0.2, (t > 0.4) & (t < 0.6), t > 0.8):
        assert inputs[early].std().item() == pytest.approx(1, rel=0.02)
    end = FlowSampler(steps=2).sample(
        process, Euclidean(4), lambda v, t: torch.zeros_like(v), (5000, 4, 1, 1), generator(3)
    )
    assert end.std().item() == pytest.approx(1, rel=0.02)


def test_given_the_label_the_noise_of_a_posterior_is_the_prior():
    """ε says nothing of the image, so each class starts out from all of the prior, as in sampling."""
    process, labels, g = FlowMatching(time="uniform", pairing="posterior"), torch.arange(12) % 3, generator(5)
    found = []
    for _ in range(300):
        noise = torch.randn(12, 1, 1, 1, generator=g)
        v = (2 * labels - 2).float().view(-1, 1, 1, 1) + 0.4 * noise

        def predict(x_t, t, v=v):
            t = t.view(-1, 1, 1, 1)
            found.append(((x_t - t * v) / (1 - t)).flatten())
            return x_t

        process.loss(Euclidean(1), predict, v, g, labels, noise)
    start = torch.stack(found)
    for label in range(3):
        assert kstest(start[:, labels == label].flatten().numpy(), "norm").pvalue > 0.003


def test_the_pairing_that_was_measured_is_kept_with_the_weights():
    fitted, loaded = FlowMatching(pairing="posterior"), FlowMatching(pairing="posterior")
    fitted.fit_pairing(latents(), 0.5 * latents())
    loaded.load_state_dict(fitted.state_dict())
    assert loaded.correlation == fitted.correlation != 0
    assert not FlowMatching().state_dict()  # independent noise has no correlation to keep
    fitted.fit_pairing(latents(), latents())
    assert fitted.correlation == pytest.approx(0.99)
    fitted.fit_pairing(latents(), -latents())
    assert fitted.correlation == 0
