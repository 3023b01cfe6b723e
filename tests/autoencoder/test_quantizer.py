"""The codebook: that of diffusers at c = 0, geodesic elsewhere, kept alive, a function of its generator alone."""

import math

import pytest
import torch
from diffusers.models.autoencoders.vae import VectorQuantizer
from torch.nn import functional as F

from hldm.autoencoder import quantizer as quantizers
from hldm.autoencoder.quantizer import Quantizer, perplexity, used
from hldm.config.autoencoder import VQ
from hldm.geometry import Euclidean, FixedCurvature, LearnableCurvature, PoincareBall, ProductManifold

MANIFOLDS = {
    "euclidean": lambda: Euclidean(4),
    "poincare": lambda: PoincareBall(4, FixedCurvature(1.0)),
    "two balls": lambda: PoincareBall(4, FixedCurvature(0.7), balls=2),
    "hybrid": lambda: ProductManifold([Euclidean(2), PoincareBall(2, FixedCurvature(1.0))]),
    "learnable": lambda: PoincareBall(4, LearnableCurvature(1.0)),
}
FLAT = {
    "euclidean": MANIFOLDS["euclidean"],
    "ball of curvature 0": lambda: PoincareBall(4, FixedCurvature(0.0)),
    "empty ball beside flat channels": lambda: ProductManifold([Euclidean(4), PoincareBall(0, FixedCurvature(1.0))]),
}


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def build(manifold, codebook="gradient", size=16, weights=(1.0, 0.25), decay=0.9, initial=0, revive=None, scale=1.0):
    settings = VQ(
        codebook_size=size,
        codebook=codebook,
        commitment_weight=weights[0],
        codebook_weight=weights[1],
        ema_decay=decay,
        initial_batches=initial,
        revive_after=revive,
    )
    quantizer = Quantizer(settings, manifold=manifold)
    with torch.no_grad():
        quantizer.codes.copy_(scale * torch.randn(quantizer.codes.shape, generator=generator(0)))
    return quantizer


def points(n=200, scale=1.0, seed=3):
    return scale * torch.randn(n, 4, generator=generator(seed))


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("name", FLAT)
def test_in_flat_space_it_is_the_quantizer_of_latent_diffusion(name, legacy):
    theirs = VectorQuantizer(16, 4, beta=0.25, legacy=legacy)
    ours = build(FLAT[name](), weights=(1.0, 0.25) if legacy else (0.25, 1.0))
    theirs.embedding.weight.data.copy_(ours.codes)
    v = points(3 * 5 * 5).view(3, 5, 5, 4).permute(0, 3, 1, 2)
    a, b = v.clone().requires_grad_(), v.clone().requires_grad_()
    expected, expected_loss, (_, _, indices) = theirs(a)
    out = ours(b.permute(0, 2, 3, 1).reshape(-1, 4))
    assert torch.equal(out.indices, indices)
    assert torch.equal(out.v.view(3, 5, 5, 4).permute(0, 3, 1, 2), expected)
    torch.testing.assert_close(out.loss, expected_loss, rtol=1e-6, atol=0)
    direction = torch.randn(expected.shape, generator=generator())
    (expected_loss + (expected * direction).sum()).backward()
    (out.loss + (out.v * direction.permute(0, 2, 3, 1).reshape(-1, 4)).sum()).backward()
    torch.testing.assert_close(b.grad, a.grad, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(ours.codes.grad, theirs.embedding.weight.grad, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("codebook", ["gradient", "ema"])
def test_it_tends_to_the_flat_one_at_the_rate_c(codebook):
    def result(manifold):
        quantizer, v = build(manifold, codebook).double(), points().double().requires_grad_()
        out = quantizer(v)
        out.loss.backward()
        quantizer.update(v, out.indices)
        codes = quantizer.codes.grad if codebook == "gradient" else quantizer.codes
        return out.indices, out.loss.detach(), v.grad, codes

    flat = result(Euclidean(4))
    ratios = []
    for c in (1e-4, 1e-6):
        near = result(PoincareBall(4, FixedCurvature(c)))
        assert torch.equal(near[0], flat[0])
        ratios.append([float((a - b).norm() / b.norm() / c) for a, b in zip(near[1:], flat[1:], strict=True)])
    for coarse, fine in zip(*ratios, strict=True):
        assert 1e-4 < fine < 10
        assert coarse == pytest.approx(fine, rel=1e-2)


@pytest.mark.parametrize("name", MANIFOLDS)
def test_the_nearest_code_is_nearest_by_the_geodesic(name, monkeypatch):
    quantizer, v = build(MANIFOLDS[name](), scale=1.5), points(scale=1.5)
    with torch.no_grad():
        z, codes = (quantizer.manifold.from_tangent(x) for x in (v, quantizer.codes))
        distances = quantizer.manifold.dist(z.unsqueeze(1), codes)
    indices = quantizer.nearest(v)
    assert torch.equal(indices, distances.argmin(1))
    assert name == "euclidean" or not torch.equal(indices, torch.cdist(v, quantizer.codes).argmin(1))
    monkeypatch.setattr(quantizers, "MEMORY", 16 * 7)  # seven rows at a time
    assert torch.equal(indices, quantizer.nearest(v))


@pytest.mark.parametrize("name", MANIFOLDS)
def test_the_loss_is_the_squared_distance_and_gradients_pass_straight_through(name):
    quantizer, v = build(MANIFOLDS[name](), weights=(0.5, 2.0)), points().requires_grad_()
    out = quantizer(v)
    chosen = quantizer.codes[out.indices]
    torch.testing.assert_close(out.v, chosen)
    distances2 = quantizer.manifold.sqdist(quantizer.manifold.from_tangent(v), quantizer.manifold.from_tangent(chosen))
    torch.testing.assert_close(out.loss, 2.5 * distances2.mean() / 4)
    out.v.sum().backward(retain_graph=True)
    assert torch.equal(v.grad, torch.ones_like(v))
    assert quantizer.codes.grad is None
    out.loss.backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in quantizer.parameters())


@pytest.mark.parametrize("name", MANIFOLDS)
def test_gradients_are_finite_at_a_code_and_far_out(name):
    quantizer = build(MANIFOLDS[name]())
    with torch.no_grad():
        quantizer.codes[0], quantizer.codes[1] = 0.0, 12.0
    v = torch.stack([quantizer.codes[2], torch.zeros(4), torch.full((4,), 5.0), -torch.full((4,), 5.0)])
    v = v.detach().requires_grad_()
    quantizer(v).loss.backward()
    assert v.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in quantizer.parameters())


@pytest.mark.parametrize("name", MANIFOLDS)
def test_a_running_code_is_the_midpoint_of_all_its_points(name):
    """With the old code as one point of its weight; on flat space that is the running mean of appendix A.1."""
    quantizer, v = build(MANIFOLDS[name](), "ema", decay=0.75), points()
    for _ in range(2):
        before, mass = quantizer.codes.clone(), quantizer.mass.clone()
        indices = quantizer.nearest(v)
        quantizer.update(v, indices)
        for k in range(16):
            own = v[indices == k]
            if not len(own):
                assert torch.equal(quantizer.codes[k], before[k])
                continue
            weights = torch.cat([0.75 * mass[k : k + 1], torch.full((len(own),), 0.25)])
            with torch.no_grad():
                middle = quantizer.manifold.midpoint(torch.cat([before[k : k + 1], own]), weights.unsqueeze(0))
            torch.testing.assert_close(quantizer.codes[k], middle[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(quantizer.mass, 0.75 * mass + 0.25 * torch.bincount(indices, minlength=16))


def test_a_running_codebook_in_flat_space_is_the_published_one():
    quantizer, v = build(Euclidean(4), "ema", decay=0.9), points()
    mass, total = torch.zeros(16), torch.zeros(16, 4)
    for _ in range(5):
        one_hot = F.one_hot(indices := quantizer.nearest(v), 16).float()
        quantizer.update(v, indices)
        mass, total = 0.9 * mass + 0.1 * one_hot.sum(0), 0.9 * total + 0.1 * one_hot.T @ v
        hit = mass > 0
        torch.testing.assert_close(quantizer.codes[hit], (total / mass.unsqueeze(1))[hit], rtol=1e-4, atol=1e-5)


def test_the_midpoints_in_parts_are_the_same(monkeypatch):
    whole, parts = (build(MANIFOLDS["hybrid"](), "ema") for _ in range(2))
    indices = whole.nearest(v := points())
    whole.update(v, indices)
    monkeypatch.setattr(quantizers, "MEMORY", 3 * (200 + 16))
    parts.update(v, indices)
    torch.testing.assert_close(parts.codes, whole.codes)


@pytest.mark.parametrize("size", [16, 300])
def test_the_first_batches_place_the_codes(size):
    quantizer, v = build(MANIFOLDS["poincare"](), size=size, initial=2), points()
    for step in range(3):
        before = quantizer.codes.detach().clone()
        quantizer.prepare(v, generator(step))
        assert torch.equal(quantizer.codes, before) == (step == 2)
        placed = (quantizer.codes.unsqueeze(1) == v).all(2)
        assert placed.any(1).all()
        assert placed.any(0).sum() == min(size, 200)


@pytest.mark.parametrize("codebook", ["gradient", "ema"])
def test_idle_codes_are_revived_and_no_others(codebook):
    quantizer, v = build(MANIFOLDS["hybrid"](), codebook, revive=3), points()
    with torch.no_grad():
        quantizer.codes[:5] += 50.0
    for step in range(4):
        before, idle = quantizer.codes.detach().clone(), quantizer.idle.clone()
        quantizer.prepare(v, generator(step))
        moved = (quantizer.codes != before).any(1)
        assert torch.equal(moved, idle >= 3)
        assert moved[:5].all() == (step == 3)
        indices = quantizer.nearest(v)
        quantizer.update(v, indices)
        assert (quantizer.idle[:5] == (0 if step == 3 else step + 1)).all()
    assert set(range(5)) <= set(indices.tolist())


def test_without_revival_codes_stay_where_they_are():
    quantizer, v = build(Euclidean(4)), points()
    quantizer.idle.fill_(10**6)
    before = quantizer.codes.detach().clone()
    quantizer.prepare(v, generator())
    assert torch.equal(quantizer.codes, before)


def test_perplexity_counts_codes():
    uniform, single = torch.full((8,), 1 / 8), F.one_hot(torch.tensor(3), 8).float()
    assert float(perplexity(uniform)) == pytest.approx(8)
    assert float(perplexity(single)) == 1
    assert (float(used(uniform)), float(used(single))) == (1.0, 0.125)
    half = torch.tensor([0.5, 0.5, 0, 0])
    assert float(perplexity(half).log()) == pytest.approx(math.log(2))
