"""Time and memory of the geometry, the layers and the distributions, against geoopt, HypLL and flat counterparts.

    python benchmarks/geometry.py                    the whole table, about 3 minutes on 2 cores
    python benchmarks/geometry.py --only gyroplane   rows whose name contains a word
    python benchmarks/geometry.py --compiled         a column for torch.compile besides

All contenders of a row take turns within one run, and minima are reported, so that a busy machine slows all alike.
`peer/ours` above 1 means that we are faster. `tax` is ours over the flat counterpart. Peak memory is that of tensors
alive at once during forward and backward, counted by the profiler. Float32, 2 threads.

HypLL is optional (`pip install --no-deps hypll`); without it its column says so.
"""

import argparse
import gc
import platform
import time
import tracemalloc
import warnings
from collections.abc import Callable
from datetime import date
from typing import Any

import torch
from torch import Tensor, nn

from hldm.distributions import RiemannianNormal, WrappedNormal
from hldm.geometry import Euclidean, FixedCurvature, PoincareBall, ops
from hldm.nn import Gyroplane, PoincareConv2d, PoincareLinear

warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
import geoopt  # noqa: E402
import geoopt.manifolds.stereographic.math as gmath  # noqa: E402

try:
    import hypll.nn
    from hypll.manifolds.poincare_ball import Curvature as HypllCurvature
    from hypll.manifolds.poincare_ball import PoincareBall as HypllBall
    from hypll.tensors import ManifoldTensor

    HYPLL = "hypll"
except ImportError:
    HYPLL = ""

C = 1.0
K = torch.tensor(-C)
Step = Callable[[], Tensor]
"""One forward pass; its result is summed for the backward pass."""


def points(*shape: int, radius: float = 2.0, seed: int = 0) -> Tensor:
    """Normal coordinates, (*, n), with lengths up to `radius`."""
    g = torch.Generator().manual_seed(seed)
    v = torch.nn.functional.normalize(torch.randn(shape, generator=g), dim=-1)
    return v * torch.rand((*shape[:-1], 1), generator=g) * radius


def hypll_ball() -> Any:
    # its Curvature is a softplus; the inverse of 1 is 0.5413
    return HypllBall(HypllCurvature(0.541324854612918))


@torch.no_grad()
def same_planes(layer: Any, planes: Gyroplane) -> None:
    """Gives HypLL's layer our hyperplanes: arsinh takes longer for large arguments, so the work must be the same."""
    norm = planes.weight.norm(dim=1)
    layer.z.tensor.copy_(0.5 * planes.weight.T)
    layer.bias.copy_(-0.5 * planes.bias / norm)


def same(theirs: Tensor, ours: Tensor) -> None:
    assert torch.allclose(theirs, ours, rtol=1e-3, atol=1e-3), (theirs - ours).abs().max()


def rows() -> dict[str, dict[str, Step]]:
    """name → contender → step. Contenders: ours, geoopt, hypll, flat."""
    table: dict[str, dict[str, Step]] = {}
    v = points(20_000, 8).requires_grad_()
    x, y = ops.expmap0(points(20_000, 8), C).requires_grad_(), ops.expmap0(points(20_000, 8, seed=1), C)
    u = (0.3 * points(20_000, 8, seed=2)).requires_grad_()
    table["exp at the origin (20000×8)"] = {
        "ours": lambda: ops.expmap0(v, C),
        "geoopt": lambda: gmath.project(gmath.expmap0(v / 2, k=K), k=K),
    }
    table["log at the origin (20000×8)"] = {
        "ours": lambda: ops.logmap0(x, C),
        "geoopt": lambda: 2 * gmath.logmap0(x, k=K),
    }
    table["exp at a point (20000×8)"] = {
        "ours": lambda: ops.expmap(x, u, C),
        "geoopt": lambda: gmath.project(gmath.expmap(x, u, k=K), k=K),
        "flat": lambda: x + u,
    }
    table["log at a point (20000×8)"] = {
        "ours": lambda: ops.logmap(x, y, C),
        "geoopt": lambda: gmath.logmap(x, y, k=K),
        "flat": lambda: y - x,
    }
    a = ops.expmap0(points(2000, 8), C).requires_grad_()
    b = ops.expmap0(points(2000, 8, seed=1), C)
    table["distance matrix (2000×2000, n=8)"] = {
        "ours": lambda: ops.pairwise_sqdist(a, b, C),
        "geoopt": lambda: gmath.dist(a[:, None], b[None], k=K) ** 2,
        "flat": lambda: torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist") ** 2,
    }
    _layers(table)
    _distributions(table)
    if HYPLL:
        ball = hypll_ball()
        ha, hb = (ManifoldTensor(p[None], ball, man_dim=-1) for p in (a, b))
        table["distance matrix (2000×2000, n=8)"]["hypll"] = lambda: ball.cdist(ha, hb) ** 2
    return table


def _layers(table: dict[str, dict[str, Step]]) -> None:
    ball = PoincareBall(10, FixedCurvature(C))
    v = points(128, 10).requires_grad_()
    z = ops.expmap0(v.detach(), C).requires_grad_()
    gyroplane, linear = Gyroplane(ball, 600), nn.Linear(10, 600)
    p = ops.expmap0(points(600, 10, seed=1), C).requires_grad_()
    a = torch.randn(600, 10, requires_grad=True)
    table["gyroplane (128×600, n=10)"] = {
        "ours": lambda: gyroplane(v),
        "geoopt": lambda: gmath.dist2plane(z[:, None], p[None], a[None], k=K, signed=True, scaled=True),
        "flat": lambda: linear(v),
    }
    wide = PoincareBall(64, FixedCurvature(C))
    w = points(512, 64).requires_grad_()
    dense, flat = PoincareLinear(wide, wide), nn.Linear(64, 64)
    table["Poincaré linear (512×64→64)"] = {"ours": lambda: dense(w), "flat": lambda: flat(w)}
    image = points(64, 16, 16, 64).movedim(-1, 1).contiguous().requires_grad_()
    conv, flat_conv = PoincareConv2d(wide, wide, 3, 1, 1), nn.Conv2d(64, 64, 3, 1, 1)
    table["Poincaré convolution (64×64×16×16, 3×3)"] = {"ours": lambda: conv(image), "flat": lambda: flat_conv(image)}
    if HYPLL:
        hyp = hypll_ball()
        tensor = ManifoldTensor(ops.expmap0(w.detach(), C).requires_grad_(), hyp, man_dim=-1)
        layer = hypll.nn.HLinear(64, 64, hyp)
        same_planes(layer, dense.planes)
        same(ops.logmap0(layer(tensor).tensor, C), dense(w))
        table["Poincaré linear (512×64→64)"]["hypll"] = lambda: layer(tensor).tensor
        picture = ManifoldTensor(ops.expmap0(image.detach(), C, 1).requires_grad_(), hyp, man_dim=1)
        hconv = hypll.nn.HConvolution2d(64, 64, 3, hyp, padding=1)
        table["Poincaré convolution (64×64×16×16, 3×3)"]["hypll"] = lambda: hconv(picture).tensor
        narrow = ManifoldTensor(z, hyp, man_dim=-1)
        mlr = hypll.nn.HLinear(10, 600, hyp)
        same_planes(mlr, gyroplane)
        # HypLL has the gyroplane responses as a function of its fully connected layer
        from hypll.manifolds.poincare_ball.math.linalg import poincare_hyperplane_dists

        def responses() -> Tensor:
            return poincare_hyperplane_dists(narrow.tensor, mlr.z.tensor, mlr.bias, hyp.c(), -1)

        same(responses(), gyroplane(v))
        table["gyroplane (128×600, n=10)"]["hypll"] = responses


def _distributions(table: dict[str, dict[str, Step]]) -> None:
    ball, flat = PoincareBall(8, FixedCurvature(C), balls=2), Euclidean(8)
    loc, scale = points(4096, 8, radius=1.0).requires_grad_(), torch.full((4096, 8), 0.5, requires_grad=True)
    g = torch.Generator().manual_seed(0)

    def wrapped(manifold: Any) -> Tensor:
        q = WrappedNormal(manifold, loc, scale)
        draw = q.draw(g)
        return q.log_prob_draw(draw) + draw.v.sum(-1)

    def geoopt_wrapped() -> Tensor:
        total = torch.zeros(4096)
        for m, s in zip(loc.split(4, 1), scale.split(4, 1), strict=True):
            noise = torch.randn(4096, 4, generator=g) * s
            mean = gmath.expmap0(m / 2, k=K)
            z = gmath.expmap(mean, gmath.parallel_transport0(mean, noise / 2, k=K), k=K)
            back = gmath.lambda_x(mean, k=K, keepdim=True) * gmath.logmap(mean, z, k=K)
            r = gmath.dist(mean, z, k=K).clamp(min=1e-6)
            total = total - 0.5 * (back / s).square().sum(-1) - s.log().sum(-1) - 3 * (torch.sinh(r) / r).log()
            total = total + 2 * gmath.logmap0(z, k=K).sum(-1)
        return total

    def riemannian(manifold: Any) -> Tensor:
        q = RiemannianNormal(manifold, loc, scale[:, :1])
        draw = q.draw(g)
        return q.log_prob_draw(draw) + draw.v.sum(-1)

    table["wrapped normal, draw + log-prob (4096×2×4)"] = {
        "ours": lambda: wrapped(ball),
        "geoopt": geoopt_wrapped,
        "flat": lambda: wrapped(flat),
    }
    table["Riemannian normal, draw + log-prob (4096×2×4)"] = {
        "ours": lambda: riemannian(ball),
        "flat": lambda: riemannian(flat),
    }


def forward(step: Step) -> None:
    with torch.no_grad():
        step()


def both(step: Step) -> None:
    step().sum().backward()


def minima(steps: dict[str, Step], run: Callable[[Step], None], seconds: float) -> dict[str, float]:
    """Least milliseconds of each contender, taking turns for about `seconds` each."""
    best = dict.fromkeys(steps, float("inf"))
    for step in steps.values():
        run(step)
    end, turns = time.perf_counter() + seconds * len(steps), 0
    while turns < 5 or time.perf_counter() < end:
        for name, step in steps.items():
            for _ in range(3):  # the first one pays for the memory and the caches that the contender before it used
                start = time.perf_counter()
                run(step)
                best[name] = min(best[name], 1e3 * (time.perf_counter() - start))
        turns += 1
    return best


def peak_megabytes(step: Step) -> float:
    """Largest sum of live tensor bytes that one forward and backward pass adds."""
    gc.collect()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        both(step)
    live = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--seconds", type=float, default=1.0, help="per contender and column")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compiled", action="store_true", help="also ours under torch.compile")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    machine = platform.processor() or platform.machine()
    print(f"{date.today()}, {machine}, {args.threads} threads, torch {torch.__version__}")
    print(f"geoopt {geoopt.__version__}, " + ("HypLL" if HYPLL else "HypLL is not installed: its columns are empty"))
    extra = "  compiled" * args.compiled + "   peak MB: ours/geoopt/hypll/flat"
    print(f"{'':55}{'ours':>9}{'geoopt':>9}{'hypll':>9}{'tax':>7}{extra}")
    print(f"{'':55}{'ms':>9}{'/ours':>9}{'/ours':>9}{'/flat':>7}")
    for name, steps in rows().items():
        if args.only.lower() not in name.lower():
            continue
        if args.compiled:
            steps = {**steps, "compiled": torch.compile(steps["ours"])}
        for label, run in (("forward", forward), ("+backward", both)):
            best = minima(steps, run, args.seconds)
            ours = best["ours"]
            cells = [f"{best[k] / ours:9.1f}" if k in best else f"{'–':>9}" for k in ("geoopt", "hypll")]
            tax = f"{ours / best['flat']:7.1f}" if "flat" in best else f"{'–':>7}"
            line = f"{name if run is forward else '':46}{label:9}{ours:9.2f}{''.join(cells)}{tax}"
            if args.compiled:
                line += f"{best['compiled']:10.2f}"
            if run is both:
                peaks = [
                    f"{peak_megabytes(steps[k]):.0f}" if k in steps else "–"
                    for k in ("ours", "geoopt", "hypll", "flat")
                ]
                line += "   " + "/".join(peaks)
            print(line, flush=True)
    if args.only.lower() in DELTA.lower():
        print_delta()


DELTA = "δ of 1,500 points, float64"


def print_delta() -> None:
    """Gromov's δ beside the max–min product that defines it, on points of a ball; memory is the peak of our arrays."""
    from hldm.metrics import gromov_delta

    z = ops.expmap0(points(1500, 8, radius=4.0).double(), C)
    dist = ops.pairwise_sqdist(z, z, C).sqrt()

    def naive() -> float:
        a = 0.5 * (dist[0][:, None] + dist[0] - dist)
        best = torch.zeros_like(a)
        for k in range(len(a)):
            torch.maximum(best, torch.minimum(a[:, k, None], a[k]), out=best)
        return float((best - a).max())

    tracemalloc.start()
    delta = gromov_delta(dist)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    times = []
    for run in (lambda: gromov_delta(dist), lambda: gromov_delta(dist), naive):
        start = time.perf_counter()
        assert abs(run() - delta) < 1e-12
        times.append(time.perf_counter() - start)
    ours, product = min(times[:2]), times[2]
    print(f"{DELTA}: ours {ours:.2f} s, max–min product {product:.1f} s ({product / ours:.0f} ×), peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
