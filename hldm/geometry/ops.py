"""The Poincaré ball of curvature −c as pure functions of tensors.

    B_c^n = {z : c|z|² < 1},   metric λ_z²|dz|²,   λ_z = 2/(1 − c|z|²)

Legend: `x`, `y`, `z` are points, `v` normal coordinates, `u` a tangent vector in ball coordinates, `w` the same vector
in the orthonormal frame (w = λ_x u). The coordinate axis is `dim`; every other axis is a batch axis and broadcasts.
`c` is ≥ 0: a Python float where it is fixed, a tensor of shape () where it is learned.

Three rules hold throughout:

* c → 0 is Euclidean space in the coordinates z = v/2 with metric 4|dz|². With the *float* c = 0 a function takes that
  branch in Python; as a tensor c passes through 0 continuously, with its gradient (`analytic.py`).
* 1 − c|x ⊕ y|² and the like are never expanded: with g_x = 1 − c|x|² and δ = y − x, everything follows from g_x, g_y
  and c|δ|² by sums of positive terms, so close points near the boundary keep their relative accuracy in float32.
* float16 and bfloat16 are promoted to float32 at the door, and no function here is on autocast's list of ops to
  lower, so autocast never enters.

Points are held within √c·r ≤ 15 in float32 and 34 in float64, where 1 − c|z|² is still 20 to 30 units of rounding.
"""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

from hldm.geometry.analytic import asinhc, atanhc, spread, tanhc
from hldm.geometry.elementary import arsinh
from hldm.geometry.shapes import Number, Operand, Scalar, Whole

MAX_RADIUS = {torch.float32: 15.0, torch.float64: 34.0}
"""Largest √c·d(0, z) that ball coordinates of a number format can hold."""


def flat(c: Scalar) -> bool:
    """Whether c is known to be 0 without a look at data."""
    return not isinstance(c, Tensor) and c == 0


def promote(x: Operand) -> Whole:
    """At least float32."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def full_precision(x: Operand) -> AbstractContextManager[object]:
    """Keeps autocast from lowering matmuls on the device of x; entering that costs as much as ten small operations."""
    device = x.device.type
    is_lowered = device != "meta" and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if is_lowered else nullcontext()


def sqnorm(x: Operand, dim: int) -> Tensor:
    """|x|² with the axis kept."""
    return (x * x).sum(dim, keepdim=True)


def gap(x: Operand, c: Scalar, dim: int = -1) -> Tensor:
    """g_x = 1 − c|x|², at least what a point at the radius limit has; the axis is kept."""
    return (1 - c * sqnorm(x, dim)).clamp(min=math.cosh(MAX_RADIUS[x.dtype] / 2) ** -2)


def lambda_x(x: Operand, c: Scalar, dim: int = -1) -> Tensor:
    """Conformal factor λ_x = 2/(1 − c|x|²), the axis kept; 2 everywhere as c → 0."""
    x = promote(x)
    return 2 / gap(x, c, dim)


def project(x: Operand, c: Scalar, dim: int = -1) -> tuple[Whole, Number]:
    """Nearest point within the radius limit on the same ray, and the share of points that were moved (shape ()).

    Nothing is moved as c → 0. The gradient at a moved point is the tangential one.
    """
    x = promote(x)
    if flat(c):
        return x, x.new_zeros(())
    s = c * sqnorm(x, dim)
    limit = math.tanh(MAX_RADIUS[x.dtype] / 2)
    outside = s > limit**2
    return x * torch.where(outside, limit * s.clamp(min=limit**2).rsqrt(), 1.0), outside.to(x.dtype).mean()


def saturation(x: Operand, c: Scalar, dim: int = -1) -> Number:
    """Share of points (shape ()) at the radius limit: within 0.5 of it, which is where rounding leaves them."""
    x = promote(x)
    if flat(c):
        return x.new_zeros(())
    edge = math.tanh((MAX_RADIUS[x.dtype] - 0.5) / 2)
    return (c * sqnorm(x, dim) >= edge**2).to(x.dtype).mean()


def expmap0(v: Operand, c: Scalar, dim: int = -1) -> Whole:
    """Point at distance |v| from the origin, in the direction of v.

        Φ_c(v) = tanh(√c|v|/2) · v/(√c|v|)               Ganea et al. (2018), Lemma 2, in normal coordinates

    Distances beyond the radius limit end at the limit. As c → 0 the point is v/2.
    """
    v = promote(v)
    if flat(c):
        return 0.5 * v
    return v * _expmap0_factor(c * sqnorm(v, dim))


def _expmap0_factor(s: Operand) -> Whole:
    """tanh(√s/2)/√s, bounded so that the point stays within the radius limit.

    It falls with s slower than 1/√s, so the minimum switches exactly where the radius meets the limit.
    """
    return torch.minimum(0.5 * tanhc(0.25 * s), math.tanh(MAX_RADIUS[s.dtype] / 2) * s.clamp(min=1).rsqrt())


def logmap0(z: Operand, c: Scalar, dim: int = -1) -> Whole:
    """Normal coordinates of a point, the inverse of `expmap0`.

        v = 2 artanh(√c|z|) · z/(√c|z|)                  Ganea et al. (2018), Lemma 2, in normal coordinates

    As c → 0 it is 2z. Points between the radius limit and the sphere are read as lying at the limit.
    """
    z = promote(z)
    if flat(c):
        return 2 * z
    s = (c * sqnorm(z, dim)).clamp(max=math.tanh(MAX_RADIUS[z.dtype] / 2) ** 2)
    return z * (2 * atanhc(s))


def _add(x: Operand, y: Operand, g_x: Operand, g_y: Operand, c: Scalar, dim: int) -> Whole:
    """x ⊕ y within the radius limit, from g_x = 1 − c|x|² and g_y = 1 − c|y|²."""
    total = x + y
    q = c * sqnorm(total, dim) / (g_x * g_y)
    # 1 − c|x ⊕ y|² is 1/(1 + q): what lies beyond the radius limit is brought back to it.
    limit = math.sinh(MAX_RADIUS[x.dtype] / 2) ** 2
    shrink = torch.where(q > limit, (limit / (1 + limit) * (1 + 1 / q.clamp(min=limit))).sqrt(), 1.0) / (1 + q)
    return total * (shrink / g_y) + x * (shrink * q)


def mobius_add(x: Operand, y: Operand, c: Scalar, dim: int = -1) -> Whole:
    """Möbius addition: the translation that carries the origin to x, applied to y.

        x ⊕ y = ((1 + 2c⟨x,y⟩ + c|y|²) x + (1 − c|x|²) y) / (1 + 2c⟨x,y⟩ + c²|x|²|y|²)  Ganea et al. (2018), section 2.3
              = (g_x (x + y) + c|x + y|² x) / (g_x g_y + c|x + y|²)

    in the second form, which has no cancellation where x ≈ −y. As c → 0 it is x + y.
    """
    x, y = promote(x), promote(y)
    return x + y if flat(c) else _add(x, y, gap(x, c, dim), gap(y, c, dim), c, dim)


def to_frame(x: Operand, u: Operand, c: Scalar, dim: int = -1) -> Whole:
    """w = λ_x u: components of a tangent vector at x in the orthonormal frame; 2u as c → 0."""
    x, u = promote(x), promote(u)
    return 2 * u if flat(c) else u * lambda_x(x, c, dim)


def from_frame(x: Operand, w: Operand, c: Scalar, dim: int = -1) -> Whole:
    """u = w/λ_x: the inverse of `to_frame`."""
    x, w = promote(x), promote(w)
    return 0.5 * w if flat(c) else w * (0.5 * gap(x, c, dim))


def inner(x: Operand, u: Operand, w: Operand, c: Scalar, dim: int = -1) -> Tensor:
    """Riemannian inner product λ_x²⟨u, w⟩ of two tangent vectors at x; `dim` is summed away. 4⟨u, w⟩ as c → 0."""
    return (to_frame(x, u, c, dim) * to_frame(x, w, c, dim)).sum(dim)


def expmap(x: Operand, u: Operand, c: Scalar, dim: int = -1) -> Whole:
    """Where the geodesic from x with velocity u is at time 1.

        exp_x(u) = x ⊕ tanh(√c λ_x|u|/2) u/(√c|u|)                                       Ganea et al. (2018), Lemma 2

    As c → 0 it is x + u.
    """
    x, u = promote(x), promote(u)
    if flat(c):
        return x + u
    g_x = gap(x, c, dim)
    s = c * sqnorm(u, dim) * (2 / g_x).square()
    factor = _expmap0_factor(s)
    # 1 − c|y|² from the radius of y = exp_0, which saves a sum over coordinates
    g_y = (1 - s * factor.square()).clamp(min=math.cosh(MAX_RADIUS[x.dtype] / 2) ** -2)
    return _add(x, u * (factor * (2 / g_x)), g_x, g_y, c, dim)


def logmap(x: Operand, y: Operand, c: Scalar, dim: int = -1) -> Whole:
    """The velocity at x of the geodesic that reaches y at time 1, the inverse of `expmap`.

        log_x(y) = 2/(√c λ_x) artanh(√c|−x ⊕ y|) · (−x ⊕ y)/|−x ⊕ y|                     Ganea et al. (2018), Lemma 2
                 = g_x arsinh(√q)/√(q(1 + q)) · ((y − x)/g_y − q x),    q = c|y − x|²/(g_x g_y)

    in the second form: artanh near 1 would lose the distance. As c → 0 it is y − x.
    """
    x, y = promote(x), promote(y)
    if flat(c):
        return y - x
    g_x, g_y = gap(x, c, dim), gap(y, c, dim)
    step = y - x
    q = c * sqnorm(step, dim) / (g_x * g_y)
    a = g_x * asinhc(q) * (1 + q).rsqrt()
    return step * (a / g_y) - x * (a * q)


def _gyrate(x: Operand, y: Operand, u: Operand, g_x: Operand, g_y: Operand, c: Scalar, dim: int) -> Whole:
    """gyr[y, −x] u, the rotation from the frame at x to the frame at y along their geodesic.

    Ungar's formula (gyr[a,b]u in `gyration`) with a = y = x + δ, b = −x, written so that every term carries δ.
    """
    step = y - x
    d2 = c * sqnorm(step, dim)
    p = c * (x * u).sum(dim, keepdim=True)
    e = c * (step * u).sum(dim, keepdim=True)
    k = 2 / (g_x * g_y + d2)
    return u + x * (k * (e * g_x - p * d2)) - step * (k * (p * (g_y + d2) + e * (1 - g_x)))


def gyration(a: Operand, b: Operand, u: Operand, c: Scalar, dim: int = -1) -> Whole:
    """The rotation that makes Möbius addition associative: gyr[a, b]u = ⊖(a ⊕ b) ⊕ (a ⊕ (b ⊕ u)).

        gyr[a, b]u = u + 2(A a + B b)/(1 + 2c⟨a,b⟩ + c²|a|²|b|²)                          Ungar (2008), chapter 3
        A = −c²⟨a,u⟩|b|² + c⟨b,u⟩ + 2c²⟨a,b⟩⟨b,u⟩,   B = −c²⟨b,u⟩|a|² − c⟨a,u⟩

    An isometry of the Euclidean norm; the identity as c → 0.
    """
    a, b, u = promote(a), promote(b), promote(u)
    return u if flat(c) else _gyrate(-b, a, u, gap(b, c, dim), gap(a, c, dim), c, dim)


def transport(x: Operand, y: Operand, u: Operand, c: Scalar, dim: int = -1) -> Whole:
    """Tangent vector u at x, moved in parallel along the geodesic to y.

        PT_{x→y}(u) = λ_x/λ_y · gyr[y, −x] u                                             Ganea et al. (2018), Thm. 4

    As c → 0 it is u.
    """
    x, y, u = promote(x), promote(y), promote(u)
    if flat(c):
        return u
    g_x, g_y = gap(x, c, dim), gap(y, c, dim)
    return _gyrate(x, y, u, g_x, g_y, c, dim) * (g_y / g_x)


def normal_velocity(x: Operand, y: Operand, u: Operand, c: Scalar, dim: int = -1) -> Whole:
    """How a point y that moves with velocity u moves in normal coordinates around x: d/dt log_x(y) = (d exp_x)⁻¹ u.

        ã + (√c d/sinh(√c d))·(ũ − ã),   ũ = PT_{y→x}(u),  ã its part along log_x(y),  d = d(x, y)

    since a Jacobi field across a geodesic grows like sinh(√c d)/√c (do Carmo 1992, chapter 5). It is `transport` up to
    O(c d²); as c → 0 it is u.
    """
    x, y, u = promote(x), promote(y), promote(u)
    if flat(c):
        return u
    moved, a = transport(y, x, u, c, dim), logmap(x, y, c, dim)
    scale2 = lambda_x(x, c, dim).square()
    s = c * sqnorm(a, dim) * scale2
    across = moved * s - a * (c * scale2 * (a * moved).sum(dim, keepdim=True))
    return moved - across * spread(s)


def sqdist(x: Operand, y: Operand, c: Scalar, dim: int = -1) -> Tensor:
    """Squared geodesic distance; `dim` is summed away. Smooth everywhere, also at x = y.

        d(x, y) = 2/√c · arsinh(√c |x − y| / √((1 − c|x|²)(1 − c|y|²)))

    which is eq. 2 of Nickel & Kiela (2017) by arcosh(1 + 2t²) = 2 arsinh t. As c → 0 it is 4|x − y|².
    """
    x, y = promote(x), promote(y)
    step2 = (x - y).square().sum(dim)
    if flat(c):
        return 4 * step2
    q2 = step2 / (gap(x, c, dim) * gap(y, c, dim)).squeeze(dim)
    return 4 * q2 * asinhc(c * q2) ** 2


def safe_sqrt(a: Operand) -> Whole:
    """√a with slope 0 at a = 0, where a distance has no gradient."""
    positive = a > 0
    return torch.where(positive, torch.where(positive, a, 1).sqrt(), 0)


def dist(x: Operand, y: Operand, c: Scalar, dim: int = -1) -> Tensor:
    """Geodesic distance; `dim` is summed away. 2|x − y| as c → 0. Its gradient at x = y is 0."""
    return safe_sqrt(sqdist(x, y, c, dim))


FEW = 16
"""Coordinates up to which a GPU takes one at a time: its kernel for distances is made for many (docs/training.md)."""


def pairwise_steps(x: Float[Tensor, "*#B N n"], y: Float[Tensor, "*#B M n"]) -> Float[Tensor, "*B N M"]:
    """(*B, N, n) and (*B, M, n) → (*B, N, M) Euclidean |x_i − y_j|; no gradient where it is 0."""
    if x.is_cuda and x.shape[-1] <= FEW:
        return steps_by_coordinate(x, y)
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def steps_by_coordinate(x: Float[Tensor, "*#B N n"], y: Float[Tensor, "*#B M n"]) -> Float[Tensor, "*B N M"]:
    """`pairwise_steps`, one coordinate after another."""
    pairs = zip(x.unsqueeze(-2).unbind(-1), y.unsqueeze(-3).unbind(-1), strict=True)
    step2 = x.new_zeros(x.shape[-2], y.shape[-2])
    for a, b in pairs:
        step2 = step2 + (a - b).square()
    return safe_sqrt(step2)


def pairwise_sqdist(x: Float[Tensor, "*#B N n"], y: Float[Tensor, "*#B M n"], c: Scalar) -> Float[Tensor, "*B N M"]:
    """(*B, N, n) and (*B, M, n) → (*B, N, M) squared distances; 4|x_i − y_j|² as c → 0.

    From direct differences: expanding |x|² − 2⟨x,y⟩ + |y|² would lose small distances in float32.
    """
    x, y = promote(x), promote(y)
    step = pairwise_steps(x, y)
    if flat(c):
        return 4 * step.square()
    # g_x and g_y are applied to rows and columns before the square, so nothing of size N × M is made twice.
    rows, columns = gap(x, c).rsqrt(), gap(y, c).rsqrt().transpose(-1, -2)
    q = step * rows * columns
    if isinstance(c, Tensor):
        return 4 * q.square() * asinhc(c * q.square()) ** 2
    return (arsinh(math.sqrt(c) * q) * (2 / math.sqrt(c))).square()


def geodesic(x0: Operand, x1: Operand, t: Operand, c: Scalar, dim: int = -1) -> tuple[Whole, Whole]:
    """Point and velocity at time t of the geodesic from x0 (t = 0) to x1 (t = 1); t broadcasts against the points.

        x_t = exp_{x0}(t log_{x0} x1),         u_t = PT_{x0→x_t}(log_{x0} x1)               for t ≤ 1/2
        x_t = exp_{x1}((1 − t) log_{x1} x0),   u_t = −PT_{x1→x_t}(log_{x1} x0)              for t > 1/2

    Chen & Lipman (2024), eq. 15 with κ = 1 − t, of constant speed (Proposition 3.2). Both lines are the same geodesic,
    but an error of a velocity grows like e^d along a distance d (Jacobi fields), so each shoots from the nearer end:
    in float32 and at √c·r = 8 for both ends, x_t errs by 3e-4/√c instead of 1.2/√c, and x_1 = x1. The transported
    form of u_t has no singularity at an end. As c → 0 it is the straight line and x1 − x0.
    """
    x0, x1 = promote(x0), promote(x1)
    if flat(c):
        u = x1 - x0
        return x0 + t * u, u
    from_x0 = t <= 0.5
    near, far = torch.where(from_x0, x0, x1), torch.where(from_x0, x1, x0)
    u = logmap(near, far, c, dim)
    x_t = expmap(near, torch.where(from_x0, t, 1 - t) * u, c, dim)
    u_t = transport(near, x_t, u, c, dim)
    return x_t, torch.where(from_x0, u_t, -u_t)
