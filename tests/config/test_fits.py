"""Rules ask for facts of sections, so that they hold for sections that this project does not know."""

from typing import Any

import pytest

from hldm.config import fits
from hldm.config.autoencoder import Autoencoder, Convolutions
from hldm.config.compose import compose
from hldm.config.dataset import Dataset
from hldm.config.geometry import Euclidean, PoincareBall, ProductManifold
from hldm.config.schema import RunConfig
from hldm.errors import UserError


@pytest.fixture(autouse=True)
def families(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test adds to a family is gone after it."""
    for family in (Autoencoder, Dataset):
        monkeypatch.setattr(family, "options", dict(family.options))


def said(config: RunConfig, **sections: Any) -> str:
    return "\n".join(fits.problems(config.model_copy(update=sections)))


def test_an_autoencoder_without_a_law_of_its_latents_is_refused_where_one_is_needed() -> None:
    class Plain(Convolutions, target="mylab.Plain"):
        is_variational = False

    assert said(compose([]), autoencoder=Plain(latent_channels=4)) == ""
    for choice, expected in (
        ("diffusion=none", "diffusion=none samples from the autoencoder's prior, and the chosen autoencoder has none"),
        ("metrics=likelihood", "and the chosen autoencoder has none. Type metrics=digits, or autoencoder=kl"),
        ("metrics.likelihood_images=10", "and the chosen autoencoder has none. Type metrics.likelihood_images=0"),
    ):
        assert said(compose([choice])) == ""
        assert expected in said(compose([choice]), autoencoder=Plain(latent_channels=4))


def test_the_classifier_of_digits_is_refused_for_larger_pictures() -> None:
    class Larger(Dataset, target="mylab.larger"):
        @property
        def image_side(self) -> int:
            return 32

    assert "28 × 28 pixels, and those of this data set have 32 × 32" in said(compose([]), dataset=Larger())
    assert said(compose(["experiment=pvae_mnist", "metrics=vectors"]), dataset=Larger()) == ""


def test_what_is_one_ball_or_one_flat_space() -> None:
    ball, two, flat = PoincareBall(channels=4), PoincareBall(channels=4, balls=2), Euclidean(channels=2)
    assert [section.is_single for section in (ball, two, flat)] == [True, False, True]
    for factors, is_single in (((ball,), True), ((two,), False), ((flat, ball), False)):
        assert ProductManifold(factors=factors).is_single is is_single
    layers = ["experiment=pvae_mnist", "form=paper", "autoencoder.encoder_head=mobius", "geometry=poincare"]
    assert said(compose(layers)) == ""
    with pytest.raises(UserError, match="defined on one ball"):
        compose([*layers, "geometry.manifold.balls=2", "latent_dim=2"])


@pytest.mark.parametrize("dataset", ["tree_images", "omniglot"])
def test_the_classifier_of_digits_judges_digits_alone(dataset: str) -> None:
    config = compose([f"dataset={dataset}"])
    assert config.metrics.classifier is None
    assert config.metrics.extractors
    refused = "metrics.classifier tells digits from each other, and the classes of this data set are not"
    for metrics in ("digits", "likelihood"):
        with pytest.raises(UserError, match=refused):
            compose([f"dataset={dataset}", f"metrics={metrics}"])
    assert refused in said(compose([]), dataset=config.dataset)
    assert said(compose(["metrics=trees"])) == ""


def test_small_drawings_are_the_remedy_for_what_sees_only_those() -> None:
    with pytest.raises(UserError, match=r"have 32 × 32\. Type dataset\.side=28, or metrics=pixels"):
        compose(["dataset=omniglot", "dataset.side=32"])
    assert compose(["dataset=omniglot", "dataset.side=32", "metrics=vectors"]).dataset.image_side == 32


def test_a_tree_of_images_fits_into_memory() -> None:
    assert compose(["dataset=tree_images", "dataset.depth=10"]).dataset.training_images == 2047 * 280
    with pytest.raises(UserError, match=r"dataset\.depth=20, .* more than the 1000000 images"):
        compose(["dataset=tree_images", "dataset.depth=20", "dataset.children=9"])


def test_labels_are_of_a_level_that_the_tree_has() -> None:
    for level in (5, 10**12):
        with pytest.raises(UserError, match=rf"dataset\.label_level={level} is below the last level"):
            compose(["dataset=tree_images", f"dataset.label_level={level}"])
    tree = ["experiment=pvae_tree"]
    assert said(compose([*tree, "dataset.label_level=6", "dataset.validation_share=0.1"])) == ""
    with pytest.raises(UserError, match=r"dataset\.label_level=7 is below the last level"):
        compose([*tree, "dataset.label_level=7"])
    with pytest.raises(UserError, match="leaves nothing to train on"):
        compose([*tree, "dataset.validation_share=0.7"])


def test_what_is_recommended_looks_at_all_of_fewer_images() -> None:
    few = ["metrics.first_stage_images=100", "metrics.likelihood.images=10"]
    assert said(compose(["metrics=likelihood", *few])) == ""
    small = ["dataset=tree_images", "dataset.siblings=50", "metrics.first_stage_images=310", "metrics.samples=1000"]
    assert said(compose(small)) == ""
    with pytest.raises(UserError, match=r"metrics\.hierarchy\.points=401 is more than metrics\.first_stage_images=100"):
        compose([*few[:1], "metrics.hierarchy.points=401"])
    compose([*few[:1], "metrics.hierarchy.test_points=301", "metrics.hierarchy.draws=0"])  # nothing reads it
