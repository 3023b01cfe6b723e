"""The denoiser of a point that attends to its condition: it uses all that it is told, token by token, and it learns."""

import math

import pytest
import torch
from torch.nn import functional as F

from hldm.config import diffusion as config
from hldm.diffusion import CrossAttentionDenoiser, FlowMatching, FlowSampler, MLPDenoiser
from hldm.diffusion.point import CrossAttentionBlock
from hldm.geometry import Euclidean, FixedCurvature, PoincareBall
from hldm.layout import LatentLayout
from hldm.nn import Condition
from hldm.training import initialised
from tests.diffusion.test_point import T, attending, condition, generator, mlp, perturbed


def point():
    return torch.randn(3, 3, generator=generator())


@torch.no_grad()
def test_padding_may_as_well_not_be_there():
    model, one = attending(16), condition("text")
    shorter = Condition(hidden=one.hidden[:2, :3], mask=one.mask[:2, :3])
    torch.testing.assert_close(model(point()[:2], T[:2], shorter), model(point(), T, one)[:2])


@torch.no_grad()
def test_it_sees_tokens_where_the_mlp_sees_their_mean():
    one = condition("text")
    whole = torch.ones_like(one.mask)
    moved = torch.cat([one.hidden[:, :1] + 1, one.hidden[:, 1:2] - 1, one.hidden[:, 2:]], 1)
    for model, is_seen in ((attending(16), True), (mlp(16), False)):
        a, b = (model(point(), T, Condition(hidden=hidden, mask=whole)) for hidden in (one.hidden, moved))
        assert ((a - b).abs().amax(1).min() > 1e-3) == is_seen


@pytest.mark.parametrize("kind", ["label", "text"])
@torch.no_grad()
def test_the_condition_steers_the_normalisation_too(kind):
    model = attending(16 if kind == "text" else None)
    for block in model.blocks:
        block.attention.out_proj.weight.zero_()
    a, b = (model(point(), T, condition(kind, seed)) for seed in (0, 1))
    assert (a - b).abs().amax(1).min() > 1e-4


def test_attention_to_a_single_label_depends_on_the_point():
    """There is another token beside it: without one its weight is 1 and queries have no gradient."""
    model = attending()
    model(point(), T, condition("label")).square().sum().backward()
    queries = model.blocks[0].attention.in_proj_weight.grad[:16]
    assert queries.abs().max() > 1e-4


@torch.no_grad()
def test_a_block_is_its_formula():
    """One head, written out: the modulated point asks, the tokens that are there and the learned one answer."""
    block = perturbed(CrossAttentionBlock(8, 1, 5))
    h, emb, context = (
        torch.randn(shape, generator=generator(k)) for k, shape in enumerate([(3, 8), (3, 8), (3, 2, 5)])
    )
    padding = torch.tensor([[False, False], [False, True], [True, True]])
    attention, (scale, shift, gate) = block.attention, block.modulation(emb).chunk(3, 1)
    of_query, of_key, of_value = attention.in_proj_bias.chunk(3)
    query = ((1 + scale) * F.layer_norm(h, (8,)) + shift) @ attention.q_proj_weight.T + of_query
    key = torch.cat([context @ attention.k_proj_weight.T + of_key, attention.bias_k.expand(3, -1, -1)], 1)
    value = torch.cat([context @ attention.v_proj_weight.T + of_value, attention.bias_v.expand(3, -1, -1)], 1)
    scores = (key @ query.unsqueeze(2)).squeeze(2) / math.sqrt(8)
    weights = scores.masked_fill(F.pad(padding, (0, 1)), -math.inf).softmax(1)
    found = attention.out_proj((weights.unsqueeze(2) * value).sum(1))
    torch.testing.assert_close(block(h, emb, context, padding), block.mlp(h + gate * found, emb))


def test_labels_have_as_many_parameters_as_those_of_the_mlp():
    """At the usual sizes, so that the two can be compared."""
    models = [
        MLPDenoiser(config.MLPDenoiser(), layout=LatentLayout.of_point(Euclidean(8)), classes=10),
        CrossAttentionDenoiser(config.CrossAttention(), layout=LatentLayout.of_point(Euclidean(8)), classes=10),
    ]
    counts = [sum(p.numel() for p in model.parameters()) for model in models]
    assert max(counts) <= 1.01 * min(counts)


def test_it_learns_what_only_the_tokens_say():
    """Two points of H², told by two tokens whose mean is 0 either way: samples are near the one that was asked for."""
    ball = PoincareBall(2, FixedCurvature(1.0))
    places = torch.tensor([[1.2, 0.4], [-0.9, -1.1]])
    words = torch.eye(4)[:2]
    texts = torch.stack([words, -words], 1)  # (2 texts, 2 tokens, 4)
    model = initialised(
        0,
        "denoiser",
        lambda: CrossAttentionDenoiser(
            config.CrossAttention(width=32), layout=LatentLayout.of_point(ball), classes=2, context_channels=4
        ),
    )

    def told(which):
        return Condition(hidden=texts[which], mask=torch.ones(len(which), 2, dtype=torch.bool))

    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    process, g = FlowMatching(time="uniform"), generator()
    for _ in range(150):
        which = torch.randint(2, (128,), generator=g)
        v = places[which] + 0.1 * torch.randn(128, 2, generator=g)
        loss = process.loss(ball, lambda x, t, y=which: model(x, t, told(y)), v, g)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    which = torch.arange(200) % 2
    with torch.no_grad():
        v = FlowSampler(method="midpoint", steps=10).sample(
            process, ball, lambda x, t: model(x, t, told(which)), (200, 2), generator(1)
        )
    for k in (0, 1):
        own = v[which == k]
        assert (own.mean(0) - places[k]).norm() < 0.2
        assert own.std(0).max() < 0.4
