"""Published autoencoders: images through them are those of diffusers, and nothing is asked of them that they lack."""

import diffusers
import pytest
import torch

from hldm.autoencoder import PublishedAutoencoder, TrainableAutoencoder
from hldm.config.autoencoder import Published
from hldm.errors import UserError
from hldm.geometry import Euclidean, FixedCurvature, PoincareBall
from tests.published import ARCHITECTURE

IMAGES = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
KINDS = {"AutoencoderKL": {}, "VQModel": {"_class_name": "VQModel", "num_vq_embeddings": 16}}


def build(kind, image_shape=(1, 28, 28), manifold=None, **settings):
    torch.manual_seed(0)
    architecture = {**ARCHITECTURE, **KINDS[kind]}
    return PublishedAutoencoder(
        Published(architecture=architecture, **settings),
        manifold=manifold or Euclidean(4),
        decoder_stem="linear",
        image_shape=image_shape,
    ).eval()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_it_is_the_model_of_diffusers(kind):
    model = build(kind)
    assert isinstance(model.model, getattr(diffusers, kind))
    padded = torch.nn.functional.pad(IMAGES, (2, 2, 2, 2)).expand(-1, 3, -1, -1)
    theirs = model.model.encode(2 * padded - 1)
    loc, scale = encoded = model.encode(IMAGES)
    assert loc.shape == (2, *model.latent_shape) == (2, 4, 8, 8)
    drawn = model.draw(encoded, torch.Generator().manual_seed(1))
    if kind == "VQModel":
        torch.testing.assert_close(loc, theirs.latents)
        assert scale is None
        assert drawn is loc
    else:
        torch.testing.assert_close(loc, theirs.latent_dist.mean)
        torch.testing.assert_close(scale, theirs.latent_dist.std)
        noise = torch.randn(loc.shape, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(drawn, loc + scale * noise)
    expected = (model.model.decode(loc).sample.mean(1, keepdim=True) + 1) / 2
    torch.testing.assert_close(model.to_images(loc), expected[..., 2:-2, 2:-2].clamp(0, 1))


def test_it_is_not_trained():
    assert not isinstance(build("AutoencoderKL"), TrainableAutoencoder)


def test_colour_images_keep_their_channels():
    model = build("AutoencoderKL", (3, 32, 32))
    assert model.to_images(torch.zeros(2, 4, 8, 8)).shape == (2, 3, 32, 32)


def test_images_of_other_channels_are_refused():
    with pytest.raises(UserError, match="3 channels, and those of the data set have 2"):
        build("AutoencoderKL", (2, 28, 28))


@pytest.mark.parametrize(("kind", "scaling"), [("AutoencoderKL", 0.18215), ("VQModel", 1.0)])
@torch.no_grad()
def test_latents_are_lifted_to_a_ball_and_cut(kind, scaling):
    """Normal coordinates are the scaled latents, cut where they are far out; the decoder sees what they were."""
    flat, c = build(kind), 0.25
    ball = build(kind, manifold=PoincareBall(4, FixedCurvature(c)))
    (loc, scale), (lifted, lifted_scale) = flat.encode(IMAGES), ball.encode(IMAGES)
    torch.testing.assert_close(lifted, scaling * loc)  # these are small
    torch.testing.assert_close(ball.to_images(lifted), flat.to_images(loc), atol=1e-5, rtol=1e-5)
    if scale is not None:
        torch.testing.assert_close(lifted_scale, scaling * scale)
    tight = build(kind, manifold=PoincareBall(4, FixedCurvature(c)), radius=0.5, scaling=50.0)
    encoded = tight.encode(IMAGES)
    drawn = tight.draw(encoded, torch.Generator().manual_seed(0))
    for v in (encoded.loc, drawn):
        radii = c**0.5 * v.norm(dim=1)
        assert radii.max() <= 0.5 + 1e-5
        assert (radii > 0.499).any()
    direction = torch.nn.functional.cosine_similarity(encoded.loc, loc, dim=1)
    torch.testing.assert_close(direction, torch.ones_like(direction), atol=1e-4, rtol=0)
