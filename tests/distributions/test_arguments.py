"""Wrong arguments of a distribution are refused with a sentence; a model may skip the look at the numbers."""

import math

import pytest
import torch

from hldm.autoencoder.mlp import MLPAutoencoder
from hldm.distributions import Draw, RiemannianNormal, WrappedNormal
from hldm.errors import UserError
from hldm.geometry import Euclidean, FixedCurvature, PoincareBall, ProductManifold

BALLS = PoincareBall(4, FixedCurvature(1.0), balls=2)
KINDS = [WrappedNormal, RiemannianNormal]
both = pytest.mark.parametrize("kind", KINDS)


@both
@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf, 1e-50])
def test_scales_that_are_not_positive_are_refused(kind, scale: float) -> None:
    loc = torch.zeros(3, 4)
    bad = torch.ones(3, kind.scale_channels(BALLS))
    bad[1, 1] = scale
    for wrong in (scale, torch.tensor(scale), bad):
        with pytest.raises(ValueError, match=r"scale lies in \[.*standard deviations are > 0"):
            kind(BALLS, loc, wrong)
    with pytest.raises(ValueError, match="prior_scale lies in"):
        kind(BALLS, loc, 1.0).centred(scale)
    q = kind(BALLS, loc, 1.0)
    for wrong in (scale, torch.tensor(scale)):
        with pytest.raises(ValueError, match="prior_scale lies in"):
            q.kl_to_centred(wrong)
        with pytest.raises(ValueError, match="prior_scale lies in"):
            q.kl_monte_carlo(wrong)


@both
def test_a_scale_that_only_float64_can_hold_is_taken_in_float64(kind) -> None:
    assert kind(BALLS, torch.zeros(3, 4, dtype=torch.float64), 1e-50).log_normalizer().isfinite().all()


@both
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_locations_that_are_not_finite_are_refused(kind, value: float) -> None:
    loc = torch.zeros(3, 4)
    loc[2, 3] = value
    with pytest.raises(ValueError, match="loc has entries that are nan or infinite"):
        kind(BALLS, loc, 1.0)


@both
def test_shapes_that_do_not_fit_are_refused(kind) -> None:
    k = kind.scale_channels(BALLS)
    for loc, dim in (
        (torch.zeros(3, 5), -1),
        (torch.zeros(3, 4), 0),
        (torch.zeros(4), 1),
        (torch.zeros(4), -2),
        (torch.zeros(()), -1),
    ):
        with pytest.raises(ValueError, match=r"loc has shape .* 4 coordinates"):
            kind(BALLS, loc, 1.0, dim)
    with pytest.raises(ValueError, match=r"loc is of torch\.int64"):
        kind(BALLS, torch.zeros(3, 4, dtype=torch.int64), 1.0)
    # too many per point, a batch of another size, a batch that loc lacks, more axes than loc
    for shape in ((3, 3), (2, k), (5, 1), (1, 3, k), (1, 1, 1)):
        loc = torch.zeros(1, 4) if shape == (5, 1) else torch.zeros(3, 4)
        with pytest.raises(ValueError, match=rf"takes {k} scales per point or one.*broadcasts to"):
            kind(BALLS, loc, torch.ones(shape))
    with pytest.raises(ValueError, match=r"prior_scale has shape \(4,\)"):
        kind(BALLS, torch.zeros(3, 4), 1.0).centred(torch.ones(4))
    with pytest.raises(ValueError, match=r"prior_scale has shape \(1,\)"):
        kind(BALLS, torch.zeros(3, 4), 1.0).kl_to_centred(torch.ones(1))
    q = kind(BALLS, torch.zeros(3, 4), 1.0)
    with pytest.raises(ValueError, match="v has shape"):
        q.log_prob_normal(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="z has shape"):
        q.log_prob(torch.zeros(3, 5))


@both
def test_shapes_that_fit_are_taken(kind) -> None:
    k = kind.scale_channels(BALLS)
    loc = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    expected = kind(BALLS, loc, 0.7, 1).log_prob_normal(0.5 * loc)
    for shape in ((), (1,), (k, 1), (k, 2), (1, 1, 1), (3, k, 2), (3, 1, 1), (3, 1, 2)):
        for dim in (1, -2):
            q = kind(BALLS, loc, torch.full(shape, 0.7), dim)
            torch.testing.assert_close(q.log_prob_normal(0.5 * loc), expected)
    assert kind(BALLS, torch.zeros(0, 4), torch.ones(0, k)).rsample().shape == (0, 4)


def test_a_riemannian_normal_says_what_to_do_with_a_scale_per_coordinate() -> None:
    with pytest.raises(ValueError, match=r"takes 2 scales per point.*WrappedNormal"):
        RiemannianNormal(BALLS, torch.zeros(3, 4), torch.ones(3, 4))


@both
@pytest.mark.parametrize("value", [1.0, 2.0, math.nan])
def test_what_is_not_a_point_has_no_density(kind, value: float) -> None:
    manifold = ProductManifold([Euclidean(2), BALLS])
    q, z = kind(manifold, torch.zeros(3, 6), 1.0), torch.zeros(3, 6)
    z[0, 0], z[1, 2] = 7.0, 0.99
    assert q.log_prob(z).isfinite().all()
    z[1, 5] = value
    for law in (q, q.centred(1.0)):
        with pytest.raises(ValueError, match=r"c\|z\|² < 1"):
            law.log_prob(z)


@both
def test_a_model_skips_the_look_at_numbers(kind) -> None:
    """Also every distribution that is made from it."""
    bad = torch.full((3, 4), math.nan)
    q = kind(BALLS, bad, torch.full((3, 1), -1.0), validate_args=False)
    for value in (q.kl_to_centred(torch.tensor(-1.0)), q.kl_monte_carlo(torch.tensor(-1.0)), q.log_prob(bad)):
        assert value.isnan().all()
    with pytest.raises(ValueError, match="prior_scale lies in"):  # a number costs nothing to check
        q.kl_to_centred(-1.0)
    for posterior in ("wrapped", "riemannian"):
        model = MLPAutoencoder.__new__(MLPAutoencoder)
        torch.nn.Module.__init__(model)
        model.manifold, model.posterior = BALLS, posterior
        assert not model.distribution(torch.zeros(3, 4), torch.ones(3, 4)).validate_args


@both
def test_compiled_graphs_have_no_look_at_numbers(kind) -> None:
    torch.compiler.reset()

    def f(loc: torch.Tensor, scale: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        q = kind(BALLS, loc, scale)
        value = q.scale + q.centred(scale.amax()).scale
        if kind is RiemannianNormal:  # its radial law compiles by itself, which takes long
            return value
        draw = Draw(BALLS, -1, w, BALLS.add_normal(loc, w))
        return value + (q.log_prob_draw(draw) + q.kl_to_centred(1.0, draw) + q.log_prob(draw.z)).unsqueeze(1)

    loc, scale, w = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    arguments = 0.5 * loc, scale.exp()[:, : kind.scale_channels(BALLS)], 0.5 * w
    compiled = torch.compile(f, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*arguments), f(*arguments))


@both
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 15.0), (torch.float64, 34.0)])
@pytest.mark.parametrize("c", [0.3, 4.0])
def test_samples_are_points_up_to_the_radius_that_the_format_holds(kind, dtype, limit: float, c: float) -> None:
    manifold = ProductManifold([Euclidean(1), PoincareBall(4, FixedCurvature(c), balls=2)])
    loc = torch.zeros(1, 5, dtype=dtype)
    loc[0, 3:] = torch.tensor([0.6, 0.8], dtype=dtype)
    for radius in (limit - 0.1, limit + 0.1):
        q = kind(manifold, loc * radius / c**0.5, 1e-4)
        draw = q.draw(torch.Generator().manual_seed(0))
        reached = draw.v[0, 3:].norm().item() * c**0.5
        assert abs(reached - radius) < 1e-2
        if radius < limit:
            assert draw.z.isfinite().all()
            assert (c * draw.z[0, 3:].square().sum()) < 1
            continue
        other = "or float64, which reaches 34" if dtype == torch.float32 else "smaller scale or curvature."
        for point in (lambda draw=draw: draw.z, lambda q=q: q.rsample(torch.Generator().manual_seed(0))):
            with pytest.raises(UserError, match=rf"√c·r = {radius:.1f}, but .* end at {limit:g} in {dtype}.*{other}"):
                point()
        assert q.rsample_tangent(torch.Generator().manual_seed(0)).isfinite().all()


def test_a_draw_counts_its_axis_from_either_end() -> None:
    far = torch.zeros(2, 4, 3)
    far[1, 2:, 0] = 11.0  # one ball at √c·r = 15.6, though every row of the last axis is nearer
    for dim in (1, -2):
        assert Draw(BALLS, dim, far, 0.9 * far).z.isfinite().all()
        with pytest.raises(UserError, match=r"√c·r = 15\.6"):
            Draw(BALLS, dim, far, far).z  # noqa: B018
