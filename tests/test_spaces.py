"""Sections of the latent space: the manifolds they describe, whose balls share one curvature."""

import pytest

from hldm.config import geometry as config
from hldm.config.autoencoder import Autoencoder
from hldm.config.conditioning import Conditioning
from hldm.config.dataset import Dataset
from hldm.config.diffusion import Denoiser, Process, Sampler
from hldm.config.training import Optimizer
from hldm.geometry import Euclidean, FixedCurvature, LearnableCurvature, PoincareBall, ProductManifold
from hldm.spaces import curvature_of, manifold_of


@pytest.mark.parametrize(
    ("section", "kind"),
    [(config.FixedCurvature(value=0.3), FixedCurvature), (config.LearnableCurvature(value=0.3), LearnableCurvature)],
)
def test_a_curvature_starts_at_its_value(section, kind):
    c = curvature_of(section)
    assert type(c) is kind
    assert float(c().detach()) == pytest.approx(0.3)


def test_all_balls_share_one_curvature():
    c = curvature_of(config.LearnableCurvature())
    balls = config.PoincareBall(channels=4, balls=2)
    product = config.ProductManifold(factors=(config.Euclidean(channels=3), balls, config.PoincareBall(channels=1)))
    manifold = manifold_of(product, c)
    assert isinstance(manifold, ProductManifold)
    flat, *curved = manifold.leaves()
    assert (type(flat), flat.channels) == (Euclidean, 3)
    assert [(type(ball), ball.channels, ball.balls) for ball in curved] == [(PoincareBall, 4, 2), (PoincareBall, 1, 1)]
    assert all(ball.curvature is c for ball in curved)
    assert len(list(manifold.parameters())) == 1


def test_flat_space_has_no_curvature_to_learn():
    manifold = manifold_of(config.Euclidean(channels=3), curvature_of(config.LearnableCurvature()))
    assert (type(manifold), manifold.channels) == (Euclidean, 3)
    assert not list(manifold.parameters())


def test_every_section_describes_something_that_can_be_called():
    """Also where a module has the name of the function, as hldm.data.branching has."""
    families = (Autoencoder, Conditioning, Dataset, Denoiser, Process, Sampler, config.Manifold, Optimizer)
    for family in families:
        for section in family.options.values():
            assert callable(section.described()), section.target
