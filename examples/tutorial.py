"""A ball, a wrapped normal, and a geodesic flow on a toy tree: the mathematics of this project without the platform.

    python examples/tutorial.py [folder for the pictures]

docs/tutorial.md walks through it. `v` are normal coordinates (what networks see), `z` points, `c` minus the curvature.
"""

import sys
from itertools import pairwise
from pathlib import Path

import matplotlib
import torch
from torch import Tensor, nn

from hldm.diffusion import FlowMatching, FlowSampler
from hldm.distributions import WrappedNormal
from hldm.geometry import Euclidean, FixedCurvature, Manifold, PoincareBall

matplotlib.use("Agg")  # pictures go to files: no screen is needed
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Circle


def binary_tree(depth: int) -> tuple[Tensor, Tensor]:
    """Normal coordinates (nodes, 2), each level one unit further out than the one above, and the parents (nodes,)."""
    node = torch.arange(2 ** (depth + 1) - 1)
    level = torch.floor(torch.log2(node + 1.0))
    angle = 2 * torch.pi * (node + 1.5 - 2**level) / 2**level
    return level[:, None] * torch.stack([angle.cos(), angle.sin()], 1), ((node - 1) // 2).clamp_min(0)


def draw(axes: Axes, manifold: Manifold, v: Tensor, nodes: Tensor, parents: Tensor, title: str) -> None:
    """Points over a tree whose edges are geodesics, in the manifold's own coordinates."""
    z, t = manifold.from_tangent(nodes), torch.linspace(0, 1, 30)[:, None, None]
    edges, _ = manifold.geodesic(z[parents].expand(30, -1, -1), z.expand(30, -1, -1), t)
    axes.plot(edges[..., 0], edges[..., 1], color="0.6", linewidth=0.8)
    x, y = manifold.from_tangent(v).T
    axes.scatter(x, y, s=3, color="#0072b2", alpha=0.5, linewidths=0)
    if isinstance(manifold, PoincareBall):
        axes.add_patch(Circle((0, 0), 1, fill=False, color="0.3"))  # the edge of the disk, infinitely far away
    else:
        axes.set(xlim=(-4, 4), ylim=(-4, 4))
    axes.set_title(title)
    axes.set_aspect("equal")
    axes.axis("off")


class Network(nn.Module):
    """(v, t) → velocity in the orthonormal frame at v, (B, 2). Waves of the input let it tell close branches apart."""

    def __init__(self, width: int = 128, waves: int = 3) -> None:
        super().__init__()
        self.frequencies = torch.pi * torch.arange(1, waves + 1)
        sizes = [3 + 6 * waves, width, width, width]
        hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.SiLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, 2))

    def forward(self, v: Tensor, t: Tensor) -> Tensor:
        inputs = torch.cat([v / 2, t[:, None]], 1)
        phases = (inputs[..., None] * self.frequencies).flatten(1)
        return self.layers(torch.cat([inputs, phases.sin(), phases.cos()], 1))


def learn_and_draw(manifold: Manifold, v: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """As many new points as there are in v, drawn by a flow that was trained on v; all in normal coordinates."""
    scale = v.square().mean().sqrt()
    unit = manifold.rescaled(scale)  # dividing all lengths by s takes curvature c to c·s²
    network, process = Network(), FlowMatching(time="uniform")
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(steps):
        batch = v[torch.randint(len(v), (256,), generator=generator)]
        loss = process.loss(unit, network, batch / scale, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return scale * FlowSampler(method="midpoint", steps=20).sample(process, unit, network, v.shape, generator)


def main(folder: Path, steps: int = 2500) -> None:
    torch.manual_seed(0)  # the networks' first weights; everything else is drawn from the generator
    generator = torch.Generator().manual_seed(0)
    ball = PoincareBall(2, FixedCurvature(1.0))

    # A ball: |v| is the distance to the origin, and the way between two far points runs back towards it.
    x, y = ball.from_tangent(torch.tensor([[3.0, 0.0], [0.0, 3.0]]))
    middle, _ = ball.geodesic(x, y, torch.tensor(0.5))
    print(f"from 0 to x {ball.dist(0 * x, x):.2f}, from x to y {ball.dist(x, y):.2f} (flat: 3.00 and {18**0.5:.2f})")
    print(f"half-way from x to y the origin is {ball.dist(0 * x, middle):.2f} away (flat: {4.5**0.5:.2f})")

    nodes, parents = binary_tree(depth=3)
    figure, panels = plt.subplots(2, 2, figsize=(8, 8.4), layout="constrained")
    for column, (name, manifold) in zip(panels.T, (("flat", Euclidean(2)), ("ball", ball)), strict=True):
        # A wrapped normal around every node: Gaussians in the tangent spaces, carried over by geodesics.
        data = WrappedNormal(manifold, nodes, 0.15).rsample_tangent(generator, (100,)).flatten(0, 1)
        draw(column[0], manifold, data, nodes, parents, f"{name}: data")
        # A flow along geodesics from noise to these points, by the same network on both geometries.
        drawn = learn_and_draw(manifold, data, steps, generator)
        draw(column[1], manifold, drawn, nodes, parents, f"{name}: samples of the flow")
        near = [_to_nearest(manifold, v, nodes).median() for v in (data, drawn)]
        print(f"{name}: half of the data lie within {near[0]:.2f} of a node, half of the samples within {near[1]:.2f}")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "tutorial.png", dpi=110)


def _to_nearest(manifold: Manifold, v: Tensor, nodes: Tensor) -> Tensor:
    """Geodesic distance of each point to the node that is nearest to it."""
    return manifold.pairwise_sqdist(manifold.from_tangent(v), manifold.from_tangent(nodes)).min(1).values.sqrt()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/tutorial"))
