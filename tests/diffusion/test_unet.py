"""The U-Net's hyperbolic switches: same weights, the Euclidean layers at c = 0 and at the rate O(c), and they train."""

import copy
import math
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch.nn import functional as F

from hldm.config import geometry
from hldm.config.diffusion import UNet
from hldm.diffusion import UNetDenoiser
from hldm.diffusion.attention import DistanceAttention
from hldm.geometry import Euclidean, FixedCurvature, LearnableCurvature, PoincareBall, largest_balls
from hldm.layout import LatentLayout
from hldm.nn import Condition, Gyroplane

F64 = torch.float64
SWITCHES = {
    "none": {},
    "stem": {"stem": "gyroplane"},
    "distance": {"attention": "euclidean_distance"},
    "attention": {"attention": "hyperbolic_distance"},
    "all": {"stem": "gyroplane", "attention": "hyperbolic_distance"},
}


LAYOUT = LatentLayout.of_map(Euclidean(4), (8, 8))


def denoiser(curvature: float = 1.0, learnable: bool = False, **switches: Any) -> UNetDenoiser:
    torch.manual_seed(0)
    c = (geometry.LearnableCurvature if learnable else geometry.FixedCurvature)(value=curvature)
    settings = UNet(block_channels=(16, 32), head_channels=16, curvature=c, **switches)
    return UNetDenoiser(settings, layout=LAYOUT, classes=10)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def batch(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, Condition]:
    return (
        noise(4, 4, 8, 8, dtype=dtype),
        torch.linspace(0.1, 0.9, 4, dtype=dtype),
        Condition(torch.tensor([0, 3, 10, 7])),
    )


@pytest.mark.parametrize("name", SWITCHES)
def test_switches_keep_the_initial_weights(name: str) -> None:
    plain, switched = denoiser().state_dict(), denoiser(**SWITCHES[name]).state_dict()
    renamed = {key.replace("conv_in.conv.", "conv_in."): value for key, value in switched.items()}
    assert all(torch.equal(plain[key], renamed[key]) for key in plain)
    assert all(key.endswith("processor.log_sharpness") for key in renamed.keys() - plain.keys())


@pytest.mark.parametrize("name", SWITCHES)
def test_switches_change_what_is_computed(name: str) -> None:
    outs = {other: denoiser(**switches)(*batch()) for other, switches in SWITCHES.items()}
    assert all(torch.equal(outs[name], out) == (name == other) for other, out in outs.items())


@pytest.mark.parametrize("side", [1, 5, 7, 8])
@pytest.mark.parametrize("attention", [[], [1, 2, 4]])
@pytest.mark.parametrize("context", [None, 8])
def test_a_map_of_any_side_comes_back_at_its_side(side: int, attention: list[int], context: int | None) -> None:
    settings = UNet(block_channels=(16, 16, 32), head_channels=16, attention_resolutions=attention)
    layout = LatentLayout.of_map(Euclidean(4), (side, side))
    model = UNetDenoiser(settings, layout=layout, classes=10, context_channels=context)
    seen = torch.zeros(2, 4, side, side, requires_grad=True)
    condition = Condition(torch.tensor([0, 3]), torch.zeros(2, 3, context)) if context else Condition(torch.arange(2))
    out = model(seen, torch.tensor([0.2, 0.7]), condition)
    out.square().sum().backward()
    assert out.shape == seen.shape
    assert seen.grad is not None
    assert (seen.grad != 0).all()


@pytest.mark.parametrize("modulation", ["shift", "scale_shift"])
def test_time_and_label_reach_a_block_as_the_formula_says(modulation: str) -> None:
    """Between the convolutions: GroupNorm(h + b), or GroupNorm(h)·(1 + a) + b."""
    block: Any = denoiser(modulation=modulation).unet.mid_block.resnets[0]
    x, embedding = noise(3, 32, 4, 4), noise(3, 64, seed=1)
    h = block.conv1(F.silu(block.norm1(x)))
    steered = block.time_emb_proj(F.silu(embedding))[:, :, None, None]
    if modulation == "shift":
        h = block.norm2(h + steered)
    else:
        a, b = steered.chunk(2, 1)
        h = block.norm2(h) * (1 + a) + b
    torch.testing.assert_close(block(x, embedding), x + block.conv2(F.silu(h)))


def test_the_modulation_changes_what_is_computed_and_not_what_there_is_to_compute_without_time_and_label() -> None:
    shifted, scaled = denoiser(), denoiser(modulation="scale_shift")
    common = {k: v for k, v in shifted.state_dict().items() if "time_emb_proj" not in k}
    missing, _ = scaled.load_state_dict(common, strict=False)
    assert all("time_emb_proj" in name for name in missing)
    assert not torch.allclose(shifted(*batch()), scaled(*batch()), atol=1e-3)
    for model in (shifted, scaled):
        for name, parameter in model.named_parameters():
            if "time_emb_proj" in name:
                parameter.detach().zero_()
    torch.testing.assert_close(shifted(*batch()), scaled(*batch()))


@pytest.mark.parametrize(
    ("curved", "flat"),
    [
        ({"stem": "gyroplane"}, {}),
        ({"attention": "hyperbolic_distance"}, {"attention": "euclidean_distance"}),
        (SWITCHES["all"], {"attention": "euclidean_distance"}),
    ],
)
def test_curvature_zero_is_the_euclidean_layer_bit_for_bit(curved: dict[str, str], flat: dict[str, str]) -> None:
    one, other = denoiser(0.0, **curved), denoiser(1.0, **flat)
    results = []
    for model in (one, other):
        loss = model(*batch()).square().mean()
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(results[0]) == len(results[1]) > 10
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("name", ["stem", "attention", "all"])
def test_the_flat_limit_is_reached_at_the_rate_of_c(name: str) -> None:
    expected = denoiser(0.0, **SWITCHES[name]).double()(*batch(F64))
    errors = [(denoiser(c, **SWITCHES[name]).double()(*batch(F64)) - expected).abs().max().item() for c in (1e-4, 1e-6)]
    assert 1e-7 < errors[0] < 1e-3
    assert 90 < errors[0] / errors[1] < 110


@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_trains(name: str) -> None:
    model, (v, t, labels) = denoiser(**SWITCHES[name]), batch()
    target = noise(4, 4, 8, 8, seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(25):
        loss = (model(v, t, labels) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        for key, p in model.named_parameters():
            assert p.grad is not None, key
            assert p.grad.isfinite().all(), key
            assert p.grad.abs().max() > 0 or key.endswith("to_k.bias"), key
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def learned(model: UNetDenoiser) -> list[LearnableCurvature]:
    return [module for module in model.modules() if isinstance(module, LearnableCurvature)]


@pytest.mark.parametrize("name", ["stem", "attention", "all"])
def test_a_learned_curvature_starts_exactly_at_the_value(name: str) -> None:
    fixed, model = denoiser(0.7, **SWITCHES[name]), denoiser(0.7, learnable=True, **SWITCHES[name])
    [c] = learned(model)
    assert c is model.curvature
    assert c().equal(torch.tensor(0.7))
    assert sum(p.numel() for p in model.parameters()) == 1 + sum(p.numel() for p in fixed.parameters())
    ours, theirs = model.state_dict(), fixed.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    torch.testing.assert_close(model.double()(*batch(F64)), fixed.double()(*batch(F64)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["stem", "attention", "all"])
def test_a_learned_curvature_has_the_gradient_of_the_fixed_one(name: str) -> None:
    """d/d log c, against the difference of two networks whose c is a number."""

    def loss(c: float, **more: bool) -> tuple[UNetDenoiser, torch.Tensor]:
        model = denoiser(c, **SWITCHES[name], **more).double()
        return model, model(*batch(F64)).square().mean()

    model, at = loss(0.7, learnable=True)
    at.backward()
    [c] = learned(model)
    h = 1e-4
    expected = (loss(0.7 * math.exp(h))[1] - loss(0.7 * math.exp(-h))[1]) / (2 * h)
    assert expected.abs() > 1e-5
    torch.testing.assert_close(c.raw.grad, expected.detach(), rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("name", ["none", "distance"])
def test_where_nothing_is_curved_there_is_no_curvature_to_learn(name: str) -> None:
    model = denoiser(learnable=True, **SWITCHES[name])
    assert not learned(model)
    assert model.curvature is None


def test_the_shared_curvature_is_one_object_in_a_copy_too() -> None:
    """The average of the weights is a copy: its layers share their curvature as well."""
    model = copy.deepcopy(denoiser(learnable=True, **SWITCHES["all"]))
    [c] = learned(model)
    assert c is model.curvature
    assert not [key for key in model.state_dict() if key.startswith("curvature")]


def test_with_labels_the_middle_has_no_attention() -> None:
    settings = UNet(block_channels=(16, 32), head_channels=16)
    with_text = UNetDenoiser(settings, layout=LAYOUT, classes=10, context_channels=12)
    for model, attentions in ((denoiser(), 0), (with_text, 2)):
        assert sum(isinstance(part, Attention) for part in model.unet.mid_block.modules()) == attentions


@pytest.mark.parametrize("scale", [0.0, 100.0])
def test_gradients_are_finite_at_the_origin_and_far_out(scale: float) -> None:
    model, (v, t, labels) = denoiser(curvature=4.0, **SWITCHES["all"]), batch()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if ".to_" in key and "to_out" not in key:
                p.mul_(scale)
    v = (scale * v).requires_grad_()
    out = model(v, t, labels)
    out.square().mean().backward()
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in (v, *model.parameters()) if p.grad is not None)


def test_the_stem_is_the_distance_of_joined_patches_to_gyroplanes() -> None:
    c, v = 0.7, noise(2, 4, 8, 8, dtype=F64)
    stem = denoiser(c, stem="gyroplane").double().unet.conv_in
    planes = Gyroplane(PoincareBall(36, FixedCurvature(c)), 16, dim=1).double()
    with torch.no_grad():
        planes.weight.copy_(stem.conv.weight.flatten(1) / stem.ratio)
        planes.bias.copy_(stem.conv.bias)
    patches = stem.ratio * F.unfold(v, 3, padding=1)
    torch.testing.assert_close(stem(v), planes(patches).unflatten(2, (8, 8)))


def attention_layer(**settings: object) -> Attention:
    torch.manual_seed(0)
    return Attention(32, heads=2, dim_head=16, bias=True, **settings).double()  # type: ignore[arg-type]  # mixed


@pytest.mark.parametrize("kind", ["map", "text"])
def test_euclidean_distance_attention_is_dot_product_attention_with_a_penalty_on_keys(kind: str) -> None:
    """softmax(−τ|q − k|²) = softmax(⟨q, k⟩/√D − |k|²/2√D): diffusers' own processor with that bias."""
    if kind == "map":
        layer = attention_layer(norm_num_groups=8, residual_connection=True, rescale_output_factor=2.0)
        x, text = noise(3, 32, 4, 4, dtype=F64), None
        source = layer.group_norm(x.flatten(2)).transpose(1, 2)
    else:
        layer = attention_layer(cross_attention_dim=12)
        x, text = noise(3, 16, 32, dtype=F64), noise(3, 5, 12, seed=1, dtype=F64)
        source = text
    penalty = layer.to_k(source).unflatten(2, (2, 16)).square().sum(-1) / (2 * math.sqrt(16))
    mask = -penalty.transpose(1, 2).flatten(0, 1).unsqueeze(1)  # (B·heads, 1, N), as diffusers wants it
    expected = AttnProcessor2_0()(layer, x, text, mask.expand(-1, 16, -1))
    layer.set_processor(DistanceAttention(Euclidean(16), 2).double())
    torch.testing.assert_close(layer(x, text), expected)


@pytest.mark.parametrize("c", [0.0, 1.0])
def test_padding_is_not_looked_at(c: float) -> None:
    layer = attention_layer(cross_attention_dim=12)
    layer.set_processor(DistanceAttention(largest_balls(16, FixedCurvature(c)), 2).double())
    x, text = noise(3, 16, 32, dtype=F64), noise(3, 6, 12, seed=1, dtype=F64)
    bias = torch.tensor([0.0, 0, 0, 0, -10000, -10000], dtype=F64).expand(3, 1, 6)
    torch.testing.assert_close(layer(x, text, bias), layer(x, text[:, :4]))
    assert not layer(x, text).allclose(layer(x, text[:, :4]))


def test_every_switch_works_with_text_and_its_padding() -> None:
    torch.manual_seed(0)
    settings = UNet(block_channels=(16, 32), head_channels=16, **SWITCHES["all"])
    model = UNetDenoiser(settings, layout=LAYOUT, classes=10, context_channels=12)
    v, t, _ = batch()
    hidden = noise(4, 6, 12, seed=1)
    mask = torch.tensor([1, 1, 1, 1, 0, 0]).bool().expand(4, 6)
    out = model(v, t, Condition(hidden=hidden, mask=mask))
    torch.testing.assert_close(out, model(v, t, Condition(hidden=hidden[:, :4], mask=mask[:, :4])))
    assert not out.allclose(model(v, t, Condition(hidden=hidden, mask=torch.ones_like(mask))), atol=1e-5)
    out.square().mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    names = [key for key, p in model.named_parameters() if key.endswith("log_sharpness") and p.grad.abs().max() > 0]
    assert len(names) == 8  # self- and cross-attention of the lowest level and the middle


def test_hyperbolic_attention_favours_what_is_near_and_clips_what_is_far() -> None:
    """A query that sits on one of its keys attends to it alone as τ grows; far keys count as keys at the clip."""
    layer = attention_layer()
    processor = DistanceAttention(largest_balls(16, FixedCurvature(1.0)), 2).double()
    layer.set_processor(processor)
    with torch.no_grad():
        layer.to_k.load_state_dict(layer.to_q.state_dict())
        processor.log_sharpness.fill_(10.0)
        x = noise(2, 7, 32, dtype=F64)
        alone = layer.to_out[0](layer.to_v(x))
        torch.testing.assert_close(layer(x), alone)
        processor.log_sharpness.fill_(-2.0)
        for linear in (layer.to_q, layer.to_k):
            linear.bias.zero_()
            linear.weight.mul_(1e3)
        far = layer(x)
        for linear in (layer.to_q, layer.to_k):
            linear.weight.mul_(1e3)
        torch.testing.assert_close(layer(x), far)


def test_inside_autocast_scores_stay_in_float32() -> None:
    model = denoiser(**SWITCHES["all"])
    expected = model(*batch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(*batch())
    assert out.isfinite().all()
    torch.testing.assert_close(out.float(), expected, rtol=0.1, atol=0.1)
