"""Distances and means of latents, vectors and maps alike.

Legend: latents (n, C, *positions) in normal coordinates, with one point of a C-dimensional manifold at each of P
positions; squared distances add up over the positions (the product metric).
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hldm.geometry import Manifold

MEDIAN_STEPS = 30
NUMBERS_AT_ONCE = 2**20


def pairwise_dist(manifold: Manifold, v: Tensor) -> Tensor:
    """(n, n) distances of latents (n, C, *positions): squares add up over the positions."""
    z = manifold.from_tangent(v.reshape(*v.shape[:2], -1), dim=1)  # normal coordinates → points, one per position
    total = torch.zeros(len(v), len(v), dtype=v.dtype)
    for at_position in z.movedim(2, 0).contiguous():
        total += manifold.pairwise_sqdist(at_position, at_position)
    return total.sqrt()


def frechet_means(manifold: Manifold, v: Tensor, members: Tensor) -> Tensor:
    """The latent with the least sum of squared distances to each class, (classes, C, *positions).

    In a product the mean of a latent is that of its positions. An empty class has no mean: every class has a member.

    Args:
        v: (n, C, *positions).
        members: int64 (n,), the class of each latent, all of 0 … classes − 1 present.
    """
    flat = v.reshape(*v.shape[:2], -1)
    sizes = members.bincount()
    rows = members.argsort(stable=True).split(sizes.tolist())
    # classes of about one size at a time: the smaller ones are filled up with latents of weight 0
    order = sizes.argsort()
    means = torch.empty(len(sizes), *flat.shape[1:], dtype=v.dtype)
    at_once = max(1, NUMBERS_AT_ONCE // max(1, int(sizes.max()) * flat[0].numel()))
    for part in order.split(at_once):
        chosen = pad_sequence([rows[index] for index in part], batch_first=True)
        weights = (torch.arange(chosen.shape[1]) < sizes[part, None]).to(v.dtype)
        points = flat[chosen].movedim(3, 1)  # (classes, P, members, C)
        means[part] = manifold.frechet_mean(points, weights.unsqueeze(1).expand(points.shape[:-1])).movedim(2, 1)
    return means.view(len(sizes), *v.shape[1:])


def geometric_median(manifold: Manifold, v: Tensor) -> Tensor:
    """The latent with the least sum of distances to all, (1, C, *positions): far latents do not draw it.

    Weiszfeld's iteration with exp and log in place of sums (Fletcher et al. (2009), eq. 9). In a ball the gradient of
    half a squared distance grows by s coth s, s = √c·distance, where it grows by 1 in flat space: steps are shorter by
    as much, or they would go beyond the median, the farther the farther latents are.
    """
    median = v.mean(0, keepdim=True)
    for _ in range(MEDIAN_STEPS):
        steps = around(manifold, v, median)
        dist = steps.flatten(1).norm(dim=1)
        weights = 1 / dist.clamp(min=1e-3 * float(dist.median()) + 1e-12)
        weights = weights / weights.sum()
        step = weights @ steps.flatten(1) / (weights @ steepest(manifold, steps))
        median = manifold.add_normal(median, step.view_as(median), dim=1)
    return median


def steepest(manifold: Manifold, w: Tensor) -> Tensor:
    """(n,) the largest s coth s, s = √c·|w|, of the balls that latents w (n, C, *positions) are in; 1 in flat space."""
    found = torch.ones(len(w), dtype=w.dtype)
    for leaf, part in manifold.pieces(w, 1):
        squares = part.reshape(len(w), -1, leaf.ball_dim, part[0, 0].numel()).square().sum(2)
        reach = (float(leaf.curvatures()) * squares.flatten(1).amax(1)).sqrt().clamp(min=1e-6)
        found = torch.maximum(found, reach / reach.tanh())
    return found


def around(manifold: Manifold, v: Tensor, centre: Tensor) -> Tensor:
    """Latents as frame vectors at a centre (1 or n, C, *positions): normal coordinates with the centre as origin.

    They are an isometry away from v, so that distances are the same.
    """
    return manifold.add_normal(-centre.expand_as(v), v, dim=1)
