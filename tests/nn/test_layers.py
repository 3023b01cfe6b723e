"""Every layer: its Euclidean counterpart at c = 0 and at the rate O(c), its formula, its state, its gradients."""

import io
import math

import pytest
import torch
from torch import nn

from hldm.geometry import Euclidean, FixedCurvature, LearnableCurvature, PoincareBall, ProductManifold, normal, ops
from hldm.nn import (
    DistanceLayer,
    FromPoincare,
    Gyroplane,
    HyperbolicAttention,
    HyperbolicBatchNorm,
    HyperbolicRMSNorm,
    MobiusConcat,
    MobiusLinear,
    PoincareConv2d,
    PoincareConvTranspose2d,
    PoincareLinear,
    ToPoincare,
    distance_attention,
)
from hldm.nn.conv import log_beta

F64 = torch.float64
C, K = 8, 12


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def seeded(factory):
    torch.manual_seed(0)
    return factory().double()


# rounded to float32, as the layer stores it
SHARPNESS = torch.tensor(-math.log(2 * math.sqrt(C // 2))).double().exp()


class EuclideanAttention(nn.Module):
    """Distance attention by ordinary layers, with the parameter names of the hyperbolic one."""

    def __init__(self) -> None:
        super().__init__()
        self.to_query, self.to_key, self.to_value, self.to_out = (nn.Linear(C, C) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (f(x).unflatten(-1, (2, C // 2)).transpose(1, 2) for f in (self.to_query, self.to_key, self.to_value))
        scores = -((q[..., :, None, :] - k[..., None, :, :]) ** 2).sum(-1) * SHARPNESS
        return self.to_out((scores.softmax(-1) @ v).transpose(1, 2).flatten(-2))


class Distances(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.randn(K, C))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, None] - self.points[:, :, None, None]).square().sum(2).sqrt()


class RMSNorm(nn.RMSNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Concatenated(nn.Module):
    """Concatenation as a layer of one input."""

    def __init__(self, c) -> None:
        super().__init__()
        self.join = MobiusConcat([ball(3, c), ball(C - 3, c)], ball(K, c, 2), 1)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return self.join(*v.split([3, C - 3], 1))


class Clipped(nn.Module):
    """Features clipped to norm 2, at the points x/2 that flat space in ball coordinates has for them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.norm(dim=1, keepdim=True).clamp(min=2.0)


class Doubled(nn.Module):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return 2 * z


def ball(channels: int, c, balls: int = 1) -> PoincareBall:
    return PoincareBall(channels, c if isinstance(c, nn.Module) else FixedCurvature(c), balls)


# name: (hyperbolic layer of c, Euclidean counterpart, input)
LAYERS = {
    "gyroplane": (lambda c: Gyroplane(ball(C, c, 2), K, 1), lambda: nn.Conv2d(C, K, 1), noise(3, C, 6, 6)),
    "möbius": (lambda c: MobiusLinear(ball(C, c), ball(K, c, 2), 1), lambda: nn.Conv2d(C, K, 1), noise(3, C, 6, 6)),
    "poincaré": (lambda c: PoincareLinear(ball(C, c), ball(K, c, 2)), lambda: nn.Linear(C, K), noise(9, C)),
    "poincaré map": (
        lambda c: PoincareLinear(ball(C, c, 2), ball(K, c), 1),
        lambda: nn.Conv2d(C, K, 1),
        noise(3, C, 6, 6),
    ),
    "convolution": (
        lambda c: PoincareConv2d(ball(C, c, 2), ball(K, c, 2), 3, 2, 1),
        lambda: nn.Conv2d(C, K, 3, 2, 1),
        noise(3, C, 6, 6),
    ),
    "transposed": (
        lambda c: PoincareConvTranspose2d(ball(C, c), ball(K, c), 4, 2, 1),
        lambda: nn.ConvTranspose2d(C, K, 4, 2, 1),
        noise(3, C, 6, 6),
    ),
    "batch norm": (lambda c: HyperbolicBatchNorm(ball(C, c, 2)), lambda: nn.BatchNorm2d(C), 2 * noise(3, C, 6, 6) + 1),
    "rms norm": (lambda c: HyperbolicRMSNorm(ball(C, c, 2), 1), lambda: RMSNorm(C, eps=1e-6), noise(3, C, 6, 6)),
    "distance": (lambda c: DistanceLayer(ball(C, c, 2), K, 1), Distances, noise(3, C, 6, 6)),
    "concatenation": (Concatenated, lambda: nn.Conv2d(C, K, 1), noise(3, C, 6, 6)),
    "lifting": (lambda c: ToPoincare(ball(C, c), clip=2.0, dim=1), Clipped, noise(3, C, 6, 6)),
    "reading": (lambda c: FromPoincare(ball(C, c, 2), 1), Doubled, 0.2 * noise(3, C, 6, 6)),
    "attention": (
        lambda c: HyperbolicAttention(ball(C, c), 2, ball(C // 2, c, 2)),
        EuclideanAttention,
        noise(3, 10, C),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_euclidean_limit(name: str) -> None:
    hyperbolic, euclidean, x = LAYERS[name]
    expected = seeded(euclidean)(x)
    torch.testing.assert_close(seeded(lambda: hyperbolic(0.0))(x), expected, rtol=1e-12, atol=1e-12)
    for kind in (FixedCurvature, LearnableCurvature):
        errors = [(seeded(lambda c=c, k=kind: hyperbolic(k(c)))(x) - expected).abs().max().item() for c in (1e-4, 1e-6)]
        assert 1e-6 < errors[0] < 1e-2
        assert 90 < errors[0] / errors[1] < 110


def test_concatenation_is_linear_in_the_limit() -> None:
    x, y = noise(5, 3), noise(5, 4, seed=1)
    expected = seeded(lambda: nn.Linear(7, K))(torch.cat([x, y], 1))
    torch.testing.assert_close(seeded(lambda: MobiusConcat([ball(3, 0.0), Euclidean(4)], ball(K, 0.0)))(x, y), expected)
    layers = [seeded(lambda c=c: MobiusConcat([ball(3, c), ball(4, c)], ball(K, c))) for c in (1e-4, 1e-6)]
    errors = [(layer(x, y) - expected).abs().max() for layer in layers]
    assert 90 < errors[0] / errors[1] < 110


@pytest.mark.parametrize("name", LAYERS)
def test_state_survives_saving_and_loading(name: str) -> None:
    hyperbolic, _, x = LAYERS[name]
    layer = seeded(lambda: hyperbolic(LearnableCurvature(0.7)))
    layer(x)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    torch.manual_seed(1)
    fresh = hyperbolic(LearnableCurvature(1.3)).double()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert fresh.eval()(x).equal(layer.eval()(x))


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_reach_everything_and_are_finite(name: str) -> None:
    """To input, parameters and curvature, at the origin and far out, in float32."""
    hyperbolic, _, x = LAYERS[name]
    for scale in (0.0, 1.0, 100.0):
        torch.manual_seed(0)
        layer = hyperbolic(LearnableCurvature(1.0))
        v = (scale * x).float().requires_grad_()
        out = layer(v)
        (out * torch.linspace(-1, 1, out.numel()).reshape(out.shape)).sum().backward()
        assert out.isfinite().all()
        for parameter_name, p in (("input", v), *layer.named_parameters()):
            assert p.grad is not None, parameter_name
            assert p.grad.isfinite().all(), parameter_name
            if scale == 1.0:
                assert p.grad.abs().max() > 0 or parameter_name.endswith("to_key.bias"), parameter_name


@pytest.mark.parametrize("name", LAYERS)
def test_curvature_gradient_is_right(name: str) -> None:
    hyperbolic, _, x = LAYERS[name]
    curvature = LearnableCurvature(0.5).double()
    layer = seeded(lambda: hyperbolic(curvature))
    assert torch.autograd.gradcheck(lambda raw: layer(x[:1]).square().mean(), (curvature.raw,))


def test_möbius_linear_is_the_published_formula() -> None:
    c = 0.9
    layer, v = seeded(lambda: MobiusLinear(ball(C, c), ball(K, c))), 0.5 * noise(9, C)
    image = ops.expmap0(v @ layer.weight.T, c)
    expected = ops.mobius_add(image, ops.expmap0(layer.bias, c).expand_as(image), c)
    torch.testing.assert_close(ops.expmap0(layer(v), c), expected)
    concat = seeded(lambda: MobiusConcat([ball(3, c), ball(5, c)], ball(K, c)))
    a, b = (ops.expmap0(x @ w.T, c) for x, w in zip(v.split([3, 5], 1), concat.weight.split([3, 5], 1), strict=True))
    expected = ops.mobius_add(ops.mobius_add(a, b, c), ops.expmap0(concat.bias, c).expand_as(a), c)
    torch.testing.assert_close(ops.expmap0(concat(*v.split([3, 5], 1)), c), expected)


def test_poincaré_linear_is_the_published_formula() -> None:
    """Shimizu et al. (2021): y = w/(1 + √(1 + c|w|²)), w_k = sinh(√c f_k)/√c, in ball coordinates."""
    c = 0.9
    layer, v = seeded(lambda: PoincareLinear(ball(C, c), ball(K, c))), noise(9, C)
    w = torch.sinh(c**0.5 * layer.planes(v)) / c**0.5
    expected = w / (1 + (1 + c * w.square().sum(1, keepdim=True)).sqrt())
    torch.testing.assert_close(ops.expmap0(layer(v), c), expected)
    # its point: the distance to the k-th coordinate hyperplane is f_k
    coordinate = Gyroplane(ball(K, c), K).double()
    with torch.no_grad():
        coordinate.weight.copy_(torch.eye(K))
        coordinate.bias.zero_()
    torch.testing.assert_close(coordinate(layer(v)), layer.planes(v))


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 10.0])
@pytest.mark.parametrize("dim", [1, -1])
def test_points_from_components_as_one_node_are_the_single_operations(scale: float, dim: int) -> None:
    c, f = torch.tensor(0.7, dtype=F64, requires_grad=True), (scale * noise(2, 3, 4)).requires_grad_()
    found = []
    for curvature in (0.7, c):
        for lift in (normal.from_components, normal._lift):
            v = lift(f, curvature, dim)
            slopes = torch.autograd.grad(v, f, noise(2, 3, 4, seed=1), create_graph=True)
            plain = torch.autograd.grad(v, f, noise(2, 3, 4, seed=1), retain_graph=True)
            found.append((v, *slopes, *plain, *torch.autograd.grad(slopes[0].square().sum(), f, retain_graph=True)))
            if curvature is c:
                found[-1] += torch.autograd.grad(v, c, noise(2, 3, 4, seed=1))
    for one, many in zip(found[0] + found[2], found[1] + found[3], strict=True):
        torch.testing.assert_close(one, many, rtol=1e-9, atol=1e-12)


def test_components_are_clipped_where_sinh_would_overflow() -> None:
    """At √c|f| = 300, so at 150 for c = 4."""
    f = torch.tensor([155.0, -500.0, 1.0], dtype=F64, requires_grad=True)
    v = normal.from_components(f, 4.0)
    torch.testing.assert_close(v, normal.from_components(f.detach().clamp(-150, 150), 4.0), rtol=0, atol=0)
    (slope,) = torch.autograd.grad(v.sum(), f)
    assert slope[:2].eq(0).all()
    assert 0 < slope[2] < 1e-100


@pytest.mark.parametrize("scale", [1.0, 200.0])  # the second: joined points beyond the clip of their coordinates
@pytest.mark.parametrize("transposed", [False, True])
def test_convolution_is_the_fully_connected_layer_of_patches(transposed: bool, scale: float) -> None:
    c, size = 0.9, 3
    kind = PoincareConvTranspose2d if transposed else PoincareConv2d
    layer, v = seeded(lambda: kind(ball(4, c), ball(5, c), size, 1, 1)), scale * noise(2, 4, 6, 6)
    weight = layer.conv.weight.flip(2, 3).transpose(0, 1) if transposed else layer.conv.weight
    patches = layer.ratio * nn.functional.unfold(v, size, padding=1)  # (B, 4·9, 36), β-concatenated
    dense = PoincareLinear(ball(4 * size**2, c), ball(5, c), dim=1).double()
    with torch.no_grad():
        dense.planes.weight.copy_(weight.flatten(1) / layer.ratio)
        dense.planes.bias.copy_(layer.conv.bias)
    torch.testing.assert_close(layer(v), dense(patches).unflatten(-1, (6, 6)))
    from scipy.special import beta, betaln

    assert abs(log_beta(7) - betaln(7 / 2, 1 / 2)) < 1e-12
    assert abs(layer.ratio - beta(4 * 9 / 2, 0.5) / beta(4 / 2, 0.5)) < 1e-12
    # a stride of 2 fills three of four positions with the origin
    strided = PoincareConvTranspose2d(ball(4, c), ball(5, c), 4, 2, 1)
    assert abs(strided.ratio - beta(4 * 4 / 2, 0.5) / beta(4 / 2, 0.5)) < 1e-12


def test_batch_norm_centres_and_scales_on_the_ball() -> None:
    manifold = ball(C, 1.0, 2)
    norm = seeded(lambda: HyperbolicBatchNorm(manifold, dim=-1))
    v = 0.5 * noise(200, C) + 0.7
    out = norm(v)
    mean = manifold.midpoint(out, torch.ones(1, 200, dtype=F64))[0]
    assert mean.abs().max() < 0.1
    torch.testing.assert_close(out.square().mean(0), torch.ones(C, dtype=F64), rtol=1e-3, atol=0)
    with torch.no_grad():
        norm.bias.fill_(0.4)
        norm.weight.fill_(0.5)
    moved = manifold.add_normal(-norm.bias.expand_as(v), norm(v))
    torch.testing.assert_close(moved, 0.5 * out, rtol=1e-6, atol=1e-6)
    for _ in range(200):
        norm(v)
    torch.testing.assert_close(
        norm.running_mean, manifold.midpoint(v, torch.ones(1, 200, dtype=F64))[0], rtol=1e-6, atol=1e-6
    )
    training = norm(v)
    torch.testing.assert_close(norm.eval()(v), training, rtol=5e-3, atol=5e-3)
    for p in (norm.weight, norm.bias):
        p.requires_grad_(False)


def test_running_statistics_are_those_of_batch_norm_and_move_along_geodesics() -> None:
    flat, norm = nn.BatchNorm1d(C).double(), HyperbolicBatchNorm(ball(C, 0.0), dim=-1).double()
    curved = HyperbolicBatchNorm(ball(C, 1.3, 2), dim=-1).double()
    for seed in (0, 1):
        v = 0.5 * noise(20, C, seed=seed) + seed
        flat(v), norm(v)
        torch.testing.assert_close(norm.running_mean, flat.running_mean)
        torch.testing.assert_close(norm.running_var, flat.running_var)
        before = curved.running_mean.clone()
        curved(v)
        mean = curved.manifold.midpoint(v, torch.ones(1, 20, dtype=F64))[0]
        start, end = curved.manifold.from_tangent(before), curved.manifold.from_tangent(mean)
        x_t, _ = curved.manifold.geodesic(start, end, torch.tensor(0.1, dtype=F64))
        torch.testing.assert_close(curved.manifold.from_tangent(curved.running_mean), x_t)


def test_rms_norm_scales_hyperboloid_coordinates_by_its_weight() -> None:
    c = 0.6
    norm, v = HyperbolicRMSNorm(ball(C, c)).double(), noise(5, C)
    plain = norm(v)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2.0, C))
    before, after = (ops.expmap0(x, c) for x in (plain, norm(v)))
    # z = y/(1 + √(1 + c|y|²)), so y = 2z/(1 − c|z|²)
    before, after = (2 * z / (1 - c * z.square().sum(1, keepdim=True)) for z in (before, after))
    torch.testing.assert_close(after, before * norm.weight)


def test_rms_norm_acts_on_hyperboloid_coordinates() -> None:
    c = 0.6
    out = seeded(lambda: HyperbolicRMSNorm(ball(C, c)))(noise(5, C))
    y = torch.sinh(c**0.5 * out.norm(dim=1)) / c**0.5
    torch.testing.assert_close(y, torch.full((5,), C**0.5, dtype=F64), rtol=1e-4, atol=0)


def test_lifting_clips_every_ball_and_comes_back() -> None:
    manifold = ProductManifold([Euclidean(2), PoincareBall(4, LearnableCurvature(0.7).double(), balls=2)])
    x = 3 * noise(50, 6)
    z = ToPoincare(manifold, clip=1.0)(x)
    back = FromPoincare(manifold)(z)
    torch.testing.assert_close(back[:, :2].norm(dim=1), x[:, :2].norm(dim=1).clamp(max=1.0))
    radii = x[:, 2:].unflatten(1, (2, 2)).norm(dim=-1)
    torch.testing.assert_close(back[:, 2:].unflatten(1, (2, 2)).norm(dim=-1), radii.clamp(max=1.0))
    torch.testing.assert_close(FromPoincare(manifold)(ToPoincare(manifold)(x)), x)
    torch.testing.assert_close(ToPoincare(manifold, 1.0, 1)(x[:, :, None])[..., 0], z)
    zero = torch.zeros(1, 6, dtype=F64, requires_grad=True)
    ToPoincare(manifold, 1.0)(zero).sum().backward()
    assert zero.grad.isfinite().all()
    with pytest.raises(ValueError, match="clip=0"):
        ToPoincare(manifold, clip=0)


@pytest.mark.parametrize("name", LAYERS)
def test_inside_autocast_the_geometry_stays_in_float32(name: str) -> None:
    hyperbolic, _, x = LAYERS[name]
    torch.manual_seed(0)
    layer = hyperbolic(1.0)
    expected = layer(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x.float())
    assert out.dtype == torch.float32
    # exact where the whole layer is geometry; where linear maps precede it, those are lowered as everywhere
    lowered = name in ("möbius", "concatenation", "attention")
    torch.testing.assert_close(out, expected, rtol=0.05 if lowered else 0, atol=0.05 if lowered else 0)


def test_inside_autocast_distances_are_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, lowered = HyperbolicAttention(ball(C, 1.0), 2, ball(C // 2, 1.0, 2)), []

    def spy(*args: object, **kwargs: object) -> torch.Tensor:
        lowered.append(torch.is_autocast_enabled("cpu"))
        return distance_attention(*args, **kwargs)

    monkeypatch.setattr("hldm.nn.attention.distance_attention", spy)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(noise(3, 10, C).float())
    assert lowered == [False]
