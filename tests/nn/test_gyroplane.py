"""The gyroplane layer against Ganea et al.'s formula, against nn.Linear, in float32, and its memory."""

import pytest
import torch
from torch import nn

from hldm.errors import UserError
from hldm.geometry import Euclidean, FixedCurvature, LearnableCurvature, PoincareBall, ProductManifold, ops
from hldm.nn import Gyroplane


def seeded(factory):
    torch.manual_seed(0)
    return factory()


def normals(n: int, count: int, radius: float, c: float) -> torch.Tensor:
    v = torch.randn(count, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return v / v.norm(dim=1, keepdim=True) * radius / c**0.5


def ganea(v: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, c: float) -> torch.Tensor:
    """Eq. 25 in ball coordinates, with p = Φ(−b a/|a|²) and |a| measured at p, λ_p|a_p| = |a|."""
    z, norm = ops.expmap0(v, c)[:, None], weight.norm(dim=1)
    p = ops.expmap0(-(bias / norm**2)[:, None] * weight, c)
    w = ops.mobius_add(-p, z, c)
    inner = 2 * c**0.5 * (w * weight).sum(-1)
    return norm / c**0.5 * torch.asinh(inner / ((1 - c * w.square().sum(-1)) * norm))


@pytest.mark.parametrize("c", [1e-3, 0.7, 5.0])
def test_formula(c: float) -> None:
    layer = seeded(lambda: Gyroplane(PoincareBall(5, FixedCurvature(c)), 7).double())
    for radius in (0.0, 0.1, 1.0, 4.0):
        v = normals(5, 40, radius, c)
        torch.testing.assert_close(layer(v), ganea(v, layer.weight, layer.bias, c), rtol=1e-10, atol=1e-10)


def test_response_is_the_signed_distance_to_the_plane() -> None:
    """|f|/|a| is the least distance to points of the plane, which are those with response 0."""
    c = 1.3
    layer = seeded(lambda: Gyroplane(PoincareBall(2, FixedCurvature(c)), 1).double())
    with torch.no_grad():
        layer.bias.fill_(0.4)
    v = torch.tensor([[0.9, 0.2]], dtype=torch.float64)
    a = layer.weight[0].detach()
    foot = ops.expmap0(-0.4 * a / a.square().sum(), c)
    along = torch.stack([-a[1], a[0]]) / a.norm()
    steps = torch.linspace(-6, 6, 200_001, dtype=torch.float64)[:, None]
    plane = ops.expmap(foot, ops.from_frame(foot, steps * along, c), c)
    torch.testing.assert_close(
        layer(ops.logmap0(plane[::20_000], c)), torch.zeros(11, 1, dtype=torch.float64), atol=1e-9, rtol=0
    )
    nearest = ops.dist(plane, ops.expmap0(v, c), c).min()
    torch.testing.assert_close(layer(v).abs()[0, 0] / a.norm(), nearest, rtol=1e-7, atol=0)


def test_balls_add_up_with_shares_of_the_bias() -> None:
    c = 0.7
    layer = seeded(lambda: Gyroplane(PoincareBall(6, FixedCurvature(c), balls=2), 3).double())
    v = normals(6, 20, 1.5, c)
    parts = []
    for x, a in zip(v.split(3, 1), layer.weight.split(3, 1), strict=True):
        share = a.square().sum(1) / layer.weight.square().sum(1)
        parts.append(ganea(x, a, layer.bias * share, c))
    torch.testing.assert_close(layer(v), parts[0] + parts[1])
    hybrid = seeded(lambda: Gyroplane(ProductManifold([Euclidean(3), PoincareBall(3, FixedCurvature(c))]), 3).double())
    share = hybrid.weight[:, :3].square().sum(1) / hybrid.weight.square().sum(1)
    affine = v[:, :3] @ hybrid.weight[:, :3].T + share * hybrid.bias
    torch.testing.assert_close(hybrid(v), affine + ganea(v[:, 3:], hybrid.weight[:, 3:], (1 - share) * hybrid.bias, c))


def test_beyond_the_clip_the_response_is_linear_in_the_bias() -> None:
    """On vectors and on feature maps, which take other kernels, and also where balls share the bias."""
    for balls in (1, 2):
        layer = seeded(lambda balls=balls: Gyroplane(PoincareBall(4, FixedCurvature(0.7), balls), 3, dim=1).double())
        v = normals(4, 12, 1.0, 0.7)
        maps = v.view(2, 6, 4).movedim(-1, 1)
        responses = []
        for bias in (2000.0, 2300.0):
            with torch.no_grad():
                layer.bias.fill_(bias)
            responses.append(layer(v))
            torch.testing.assert_close(layer(maps).movedim(1, -1).flatten(0, 1), responses[-1])
        torch.testing.assert_close(responses[1] - responses[0], torch.full_like(responses[0], 300.0))


FLAT = [
    Euclidean(4),
    PoincareBall(4, FixedCurvature(0.0), balls=2),
    ProductManifold([Euclidean(2), PoincareBall(2, FixedCurvature(0.0))]),
    ProductManifold([Euclidean(4), PoincareBall(0, FixedCurvature(1.0))]),
]


@pytest.mark.parametrize("manifold", FLAT)
def test_flat_is_the_affine_layer_bit_for_bit(manifold) -> None:
    x = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    layer, linear, conv = (
        seeded(f) for f in (lambda: Gyroplane(manifold, 7), lambda: nn.Linear(4, 7), lambda: nn.Conv2d(4, 7, 1))
    )
    assert layer.weight.equal(linear.weight)
    assert layer.bias.equal(linear.bias)
    assert layer(x.movedim(1, -1)).equal(linear(x.movedim(1, -1)))
    layer.dim = 1
    assert layer(x).equal(conv(x))
    torch.testing.assert_close(layer(x[..., 0]), conv(x)[..., 0])
    torch.testing.assert_close(layer(x[..., None]), conv(x)[..., None])


def test_hybrid_without_euclidean_channels_is_the_ball_bit_for_bit() -> None:
    ball = PoincareBall(4, FixedCurvature(0.7), balls=2)
    x = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    layers = [seeded(lambda m=m: Gyroplane(m, 7, dim=1)) for m in (ball, ProductManifold([Euclidean(0), ball]))]
    assert layers[0](x).equal(layers[1](x))


@pytest.mark.parametrize(("radius", "tolerance"), [(1, 2e-6), (6, 5e-5), (8, 5e-4), (14, 2e-2)])
@pytest.mark.parametrize("c", [1e-6, 1.0, 10.0])
def test_float32_error(radius: float, tolerance: float, c: float) -> None:
    layer = seeded(lambda: Gyroplane(PoincareBall(10, FixedCurvature(c)), 100))
    v = normals(10, 500, radius, c).float()
    out = layer(v)
    error = (out.double() - layer.double()(v.double())) * c**0.5
    assert error.abs().max() < tolerance


@pytest.mark.parametrize("value", ["zero weight", "tiny weight", "far input", "zero input"])
@pytest.mark.parametrize("curvature", [FixedCurvature(1.0), LearnableCurvature(1.0)])
def test_extremes_are_finite_with_finite_gradients(value: str, curvature) -> None:
    layer = seeded(lambda: Gyroplane(PoincareBall(4, curvature), 3))
    v = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.weight.mul_({"zero weight": 0.0, "tiny weight": 1e-6}.get(value, 1.0))
        v.mul_({"far input": 1e4, "zero input": 0.0}.get(value, 1.0))
    v.requires_grad_()
    out = layer(v)
    out.sum().backward()
    assert out.isfinite().all()
    if value == "zero weight":  # the limit of the affine layer
        torch.testing.assert_close(out, layer.bias.expand(5, 3))
    for p in (v, *layer.parameters()):
        assert p.grad.isfinite().all()


def test_tiny_normals_respond_linearly_in_the_bias_beyond_the_clip() -> None:
    layer = seeded(lambda: Gyroplane(PoincareBall(2, FixedCurvature(1.0)), 1))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.01, 0.0]]))
        layer.bias.fill_(1.0)
    v = torch.tensor([[0.3, 0.4]], requires_grad=True)
    exact = layer.double()(v.double())
    torch.testing.assert_close(layer.float()(v).double(), exact, rtol=1e-5, atol=0)
    assert (layer(v).detach() - 1).abs() < 0.05


@pytest.mark.parametrize("c", [0.01, 1.0])
def test_gradients(c: float) -> None:
    curvature = LearnableCurvature(c).double()
    layer = seeded(
        lambda: Gyroplane(ProductManifold([Euclidean(1), PoincareBall(4, curvature, balls=2)]), 3, dim=1).double()
    )
    v = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    parameters = tuple(layer.parameters())
    assert torch.autograd.gradcheck(lambda v, *_: layer(v), (v, *parameters))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [0.0, 1.0, 300.0])
@pytest.mark.parametrize("curvature", [FixedCurvature(0.7), LearnableCurvature(0.7)])
def test_one_node_is_the_single_operations_with_their_derivatives(curvature, dtype: torch.dtype, scale: float) -> None:
    """Vectors in one ball take a node of their own, feature maps do not; derivatives twice, and at the clips."""
    layer = seeded(lambda: Gyroplane(PoincareBall(4, curvature), 3, dim=1)).to(dtype)
    v = scale * torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=dtype).requires_grad_()
    with torch.no_grad():
        layer.weight[0] *= 0.1
        layer.bias[0] = 50.0
    inputs = (v, *layer.parameters())
    probe = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)
    found = []
    for responses in (layer(v), layer(v.unsqueeze(2)).squeeze(2)):
        plain = torch.autograd.grad(responses, inputs, probe, retain_graph=True)
        slopes = torch.autograd.grad(responses, inputs, probe, create_graph=True)
        curvatures = torch.autograd.grad(sum(a.square().sum() for a in slopes), inputs)
        found.append((responses, *plain, *slopes, *curvatures))
    for one, many in zip(*found, strict=True):
        assert one.isfinite().all()
        digits = 1e-9 if dtype == torch.float64 else 1e-3
        torch.testing.assert_close(one, many, rtol=digits, atol=digits * max(1e-2, float(many.detach().abs().max())))


def test_memory_has_no_batch_by_planes_by_dimension_tensor() -> None:
    """Largest tensor that forward and backward make: (B, K), not (B, K, n)."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for a in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(a, torch.Tensor):
                    largest = max(largest, a.numel())
            return out

    layer = Gyroplane(PoincareBall(10, FixedCurvature(1.0)), 600)
    v = torch.randn(128, 10)
    with Watch():
        layer(v).sum().backward()
    assert largest == 128 * 600


def published_code(v: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, c: float) -> torch.Tensor:
    """The response of the code of Mathieu et al. (2019), step by step in ball coordinates, its clamp included."""
    reach = 0.996 / c**0.5
    z = ops.expmap0(v, c)[:, None]
    step = bias[:, None] * weight
    length = step.norm(dim=1, keepdim=True)
    a = torch.tanh(c**0.5 * length) * step / (c**0.5 * length)
    p = weight * (1 - c * a.square().sum(1, keepdim=True))
    pz, p2, z2 = (p * z).sum(-1, keepdim=True), p.square().sum(-1, keepdim=True), z.square().sum(-1, keepdim=True)
    d = ((1 - 2 * c * pz + c * z2) * -p + (1 - c * p2) * z) / (1 - 2 * c * pz + c**2 * p2 * z2)
    norm = d.norm(dim=-1, keepdim=True)
    d = torch.where(norm > reach, d / norm * reach, d)
    argument = 2 * c**0.5 * (d * a).sum(-1) / ((1 - c * d.square().sum(-1)) * a.norm(dim=1))
    return torch.asinh(argument) / c**0.5


def pvae_layer(c: float, n: int = 2, outputs: int = 60) -> Gyroplane:
    """Authors' initial values, doubled so that foot points lie inside, at the edge and outside of the ball."""
    layer = seeded(lambda: Gyroplane(PoincareBall(n, FixedCurvature(c)), outputs, form="pvae").double())
    with torch.no_grad():
        layer.weight.mul_(2 / max(c, 1e-2) ** 0.5)
    return layer


@pytest.mark.parametrize("c", [1e-3, 0.7, 5.0])
@pytest.mark.parametrize("n", [1, 2, 10])
def test_published_form(c: float, n: int) -> None:
    layer = pvae_layer(c, n)
    if c > 0.1:
        foot = c**0.5 * layer.weight.norm(dim=1) / torch.cosh(c**0.5 * layer.bias * layer.weight.norm(dim=1)) ** 2
        assert (foot > 1).any()
        assert (foot < 1).any()
    for radius in (0.0, 0.1, 1.0, 4.0, 9.0):
        v = normals(n, 40, radius, c)
        expected = published_code(v, layer.weight, layer.bias, c)
        torch.testing.assert_close(layer(v), expected, rtol=1e-8, atol=1e-8 / c**0.5)


def test_published_form_on_feature_maps_and_in_reach() -> None:
    layer = pvae_layer(0.7, 3)
    v = normals(3, 2 * 5 * 4, 2.0, 0.7).reshape(2, 5, 4, 3)
    rows = layer(v)
    layer.dim = 1
    torch.testing.assert_close(layer(v.movedim(-1, 1)), rows.movedim(-1, 1))
    torch.testing.assert_close(layer(v[:, 0].movedim(-1, 1)), rows[:, 0].movedim(-1, 1))
    far = layer(1e3 * v.movedim(-1, 1)).abs().max() * 0.7**0.5
    torch.testing.assert_close(far, torch.tensor(6.2126, dtype=torch.float64), rtol=1e-3, atol=0)


def test_published_form_tends_to_its_flat_form_at_the_rate_of_c() -> None:
    flat = seeded(lambda: Gyroplane(PoincareBall(3, FixedCurvature(0.0)), 9, form="pvae").double())
    v = normals(3, 20, 1.5, 1.0)
    unit = flat.weight / flat.weight.norm(dim=1, keepdim=True)
    expected = flat.bias.sign() * (v @ unit.T - 2 * flat.weight.norm(dim=1))
    torch.testing.assert_close(flat(v), expected)
    same = seeded(lambda: Gyroplane(Euclidean(3), 9, form="pvae").double())
    assert same(v).equal(flat(v))
    errors = []
    for c in (1e-4, 1e-6):
        layer = seeded(lambda c=c: Gyroplane(PoincareBall(3, FixedCurvature(c)), 9, form="pvae").double())
        errors.append((layer(v) - expected).abs().max().item())
    assert errors[0] < 1e-3
    assert 90 < errors[0] / errors[1] < 110


@pytest.mark.parametrize("c", [1e-6, 0.7, 10.0])
def test_published_form_in_float32(c: float) -> None:
    """Within the conditioning of a plane whose foot is at the edge of the ball, where 1 − κ has few digits."""
    for radius in (0.1, 1.0, 4.0, 6.0):
        layer, v = pvae_layer(c), normals(2, 500, radius, c).float()
        exact = layer(v.double())
        error = (layer.float()(v).double() - exact).abs() * c**0.5
        assert error.quantile(0.99) < 1e-4
        assert error.median() < 2e-6


@pytest.mark.parametrize("c", [0.01, 1.0])
def test_published_form_has_gradients_to_everything(c: float) -> None:
    layer = seeded(lambda: Gyroplane(PoincareBall(2, LearnableCurvature(c)), 5, form="pvae").double())
    v = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, *_: layer(v), (v, *layer.parameters()))


@pytest.mark.parametrize("value", ["zero weight", "zero bias", "huge weight", "far input", "zero input", "at the foot"])
def test_published_form_at_extremes_is_finite_with_finite_gradients(value: str) -> None:
    layer = seeded(lambda: Gyroplane(PoincareBall(2, LearnableCurvature(1.0)), 3, form="pvae"))
    v = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.weight.mul_({"zero weight": 0.0, "huge weight": 1e8}.get(value, 1.0))
        layer.bias.mul_(0.0 if value in ("zero bias", "at the foot") else 1.0)
        v.mul_({"far input": 1e4, "zero input": 0.0}.get(value, 1.0))
        if value == "at the foot":
            layer.bias.fill_(1e-3)
            v.copy_(ops.logmap0(layer.weight, 1.0))
    v.requires_grad_()
    out = layer(v)
    out.sum().backward()
    assert out.isfinite().all()
    for p in (v, *layer.parameters()):
        assert p.grad.isfinite().all()


def test_unknown_forms_and_products_are_refused() -> None:
    with pytest.raises(ValueError, match="form='own'"):
        Gyroplane(Euclidean(2), 3, form="own")
    for manifold in (
        PoincareBall(4, FixedCurvature(1.0), balls=2),
        ProductManifold([Euclidean(2), PoincareBall(2, FixedCurvature(1.0))]),
    ):
        with pytest.raises(UserError, match="one ball"):
            Gyroplane(manifold, 3, form="pvae")
