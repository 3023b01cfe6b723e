"""What the latents of test images are like: hierarchy, a known tree, the reach of curvature, signal and noise."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from hldm.autoencoder import Autoencoder
from hldm.autoencoder.base import Encoded
from hldm.autoencoder.variational import VariationalAutoencoder
from hldm.config.autoencoder import Layout
from hldm.config.metrics import Hierarchy
from hldm.data import Dataset
from hldm.distributions import WrappedNormal
from hldm.geometry import Manifold
from hldm.metrics import curvature_reach, latent_hierarchy, level_metrics, node_metrics, signal_and_noise, tree_test
from hldm.training import stream

FEW_NATS = 0.1
"""A position with less says next to nothing of the image."""


@torch.no_grad()
def latent_metrics(
    autoencoder: Autoencoder,
    dataset: Dataset,
    encoded: Encoded,
    drawn: Tensor,
    against: Mapping[str, Tensor],
    settings: Hierarchy,
    seed: int,
) -> dict[str, float]:
    """All metrics of the latents of the first test images.

    Args:
        encoded: of the first N test images.
        drawn: (N, *latent shape), one draw from each posterior.
        against: name → values (N,) that radii are correlated with; the depth in a known tree comes by itself.
        seed: of all that is drawn.

    Returns:
        Of `latent_hierarchy`, `signal_and_noise` and `information`; where `settings.draws` is not 0 of `tree_test` and,
        where the tree is known, of `node_metrics` and `level_metrics`. Hierarchy is looked for in the point where a
        latent is a map and a point; what is said of the map begins with map_.
    """
    *maps, (manifold, v) = autoencoder.layout.factors(encoded.loc)
    *map_draws, (_, point_drawn) = autoencoder.layout.factors(drawn)
    nodes, clusters, parents, against = dataset.test.nodes[: len(v)], None, dataset.parents, dict(against)
    if parents is not None and (depths := dataset.depths) is not None:
        clusters = nodes  # images of one node depend on each other
        if depths[nodes].min() < depths[nodes].max():  # where all images lie at one depth there is nothing to follow
            against["depth"] = depths[nodes]
    found = latent_hierarchy(
        manifold,
        v,
        against,
        points=settings.points,
        tries=settings.tries,
        base_points=settings.base_points,
        clusters=clusters,
        seed=seed,
    )
    found |= signal_and_noise(manifold, v, point_drawn)
    for (map_manifold, of_map), (_, map_drawn) in zip(maps, map_draws, strict=True):
        of_both = curvature_reach(map_manifold, of_map) | signal_and_noise(map_manifold, of_map, map_drawn)
        found |= {f"map_{name}": value for name, value in of_both.items()}
    if isinstance(autoencoder, VariationalAutoencoder):
        found |= information(autoencoder, encoded, seed)
    if settings.draws:
        found |= tree_test(manifold, v, points=settings.test_points, draws=settings.draws, seed=seed)
        if parents is not None:
            found |= known_tree(manifold, v, nodes, parents, settings, seed)
    return found


def known_tree(
    manifold: Manifold, v: Tensor, nodes: Tensor, parents: Tensor, settings: Hierarchy, seed: int
) -> dict[str, float]:
    """The latents against the tree: nodes' means from all of them, levels from `pair_points` of them."""
    generator = Generator().manual_seed(seed)
    v = v.detach().double().cpu()
    some = torch.randperm(len(v), generator=generator)[: settings.pair_points]
    found = node_metrics(manifold, v, nodes, parents, draws=settings.draws, seed=seed)
    return found | level_metrics(manifold, v[some], nodes[some], parents, draws=settings.draws, seed=seed)


def information(autoencoder: VariationalAutoencoder, encoded: Encoded, seed: int) -> dict[str, float]:
    """How much a position says of an image, by the KL of its posterior to the prior, one draw per image.

    Returns:
        kl_per_position: mean over positions, in nats; a point is one position.
        positions_below_tenth_nat: share of positions whose mean over images is below .1 nat.
        Both with map_ in front for the map, where a latent is a map and a point.
    """
    assert encoded.scale is not None
    layout = autoencoder.layout
    both = layout.kind == Layout.BOTH
    locs, scales = (layout.unpack(x) if both else (x,) for x in (encoded.loc, encoded.scale))
    found = {}
    for part, loc, scale in zip(layout.parts, locs, scales, strict=True):
        # where a latent is both, each part has a distribution of its own; there are wrapped normals only
        q = WrappedNormal(part.manifold, loc, scale, dim=1) if both else autoencoder.distribution(loc, scale)
        draw = q.draw(stream(seed, "information", 0, loc.device))
        kl = q.kl_to_centred(autoencoder.prior_scale, draw).double().mean(0)
        prefix = "map_" if both and part.kind == Layout.MAP else ""
        found[f"{prefix}kl_per_position"] = float(kl.mean())
        found[f"{prefix}positions_below_tenth_nat"] = float((kl < FEW_NATS).double().mean())
    return found
