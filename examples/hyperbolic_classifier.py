"""One classifier in flat and in hyperbolic space, from the layers of `hldm.nn`, without Hydra.

A random tree grows in 20 dimensions; a sample is a leaf plus noise, and the class is the leaf. The network has to press
the whole tree into a plane. Room grows with the radius on a flat plane, and exponentially on a hyperbolic one, as the
number of leaves does. All networks are the same code with the same initial weights; c = 0 is the Euclidean one.
A tree in the data does not make curvature pay by itself: here c = 0.3 does as well as flat, and c = 1 worse.

    python examples/hyperbolic_classifier.py
"""

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from hldm.geometry import Euclidean, FixedCurvature, PoincareBall
from hldm.nn import DistanceLayer, HyperbolicBatchNorm, PoincareLinear

DEPTH, FEATURES, HIDDEN = 5, 20, 32
LEAVES = 2**DEPTH
CURVATURES, SEEDS, STEPS = (0.0, 0.3, 1.0), (0, 1, 2), 100


def tree(generator: Generator) -> Tensor:
    """Positions (LEAVES, FEATURES) of the leaves of a binary tree whose children are their parent plus noise."""
    nodes = torch.zeros(1, FEATURES)
    for _ in range(DEPTH):
        nodes = nodes.repeat_interleave(2, 0) + torch.randn(2 * len(nodes), FEATURES, generator=generator)
    return nodes


def samples(leaves: Tensor, per_leaf: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Noisy leaves (N, FEATURES) and their numbers (N)."""
    labels = torch.arange(LEAVES).repeat(per_leaf)
    return leaves[labels] + 0.7 * torch.randn(len(labels), FEATURES, generator=generator), labels


class Classifier(nn.Module):
    """Features (N, FEATURES) → logits (N, LEAVES): minus the distances to one learned point of the plane per leaf."""

    def __init__(self, c: float) -> None:
        super().__init__()
        curvature = FixedCurvature(c)
        plane = PoincareBall(2, curvature)
        self.encoder = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.ReLU())
        # these layers take and return normal coordinates, in which flat features are what they are
        self.to_plane = nn.Sequential(PoincareLinear(Euclidean(HIDDEN), plane), HyperbolicBatchNorm(plane, dim=-1))
        self.prototypes = DistanceLayer(plane, LEAVES)
        self.sharpness = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return -self.sharpness.exp() * self.prototypes(self.to_plane(self.encoder(x)))


def accuracy(c: float, seed: int) -> float:
    """Share of test samples whose leaf is found, after training on other samples of the same tree."""
    generator = torch.Generator().manual_seed(seed)
    leaves = tree(generator)
    (x, labels), (test_x, test_labels) = (samples(leaves, n, generator) for n in (8, 50))
    torch.manual_seed(seed)  # initial weights
    model = Classifier(c)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()
    with torch.no_grad():
        return (model.eval()(test_x).argmax(1) == test_labels).float().mean().item()


if __name__ == "__main__":
    torch.set_num_threads(1)  # on tensors this small, threads only wait for each other
    print(f"{LEAVES} leaves in a plane, test accuracy of seeds {', '.join(map(str, SEEDS))} (chance: {1 / LEAVES:.0%})")
    for c in CURVATURES:
        found = [accuracy(c, seed) for seed in SEEDS]
        name = "hyperbolic" if c else "Euclidean"
        print(f"{name:>10}, c = {c:g}: {' '.join(f'{a:.3f}' for a in found)}, mean {sum(found) / len(found):.3f}")
