"""Sample quality: known answers, agreement with two libraries' own entry points, and inputs that could crash it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Generator, Tensor, nn

from hldm.config.dataset import MNIST
from hldm.config.weights import check_inception_weights
from hldm.data import Dataset, mnist
from hldm.errors import UserError
from hldm.metrics import (
    DigitClassifier,
    DigitFeatures,
    FeatureExtractor,
    InceptionFeatures,
    image_metrics,
    kernel_distance,
    real_floor,
)
from hldm.metrics.images import KID_SUBSETS, lacking_pairs

DIM = 12


class PixelFeatures(FeatureExtractor):
    """Features and logits are the pixels, in units of 16 around 128."""

    name, sha256, accuracy = "pixels", "none", None

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.anchor = nn.Parameter(torch.zeros(()))  # networks have a device

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.seen += len(images)
        x = (images.flatten(1).float() - 128) / 16
        return x, x[:, :10]


def gaussian_images(n: int, mean: Tensor, sd: Tensor, seed: int) -> Tensor:
    """uint8 (n, 1, 3, 4) whose features are Gaussian with those moments, but for rounding."""
    x = mean + sd * torch.randn(n, DIM, generator=Generator().manual_seed(seed))
    return (128 + 16 * x).round().clamp(0, 255).to(torch.uint8).view(n, 1, 3, 4)


ZERO, ONE = torch.zeros(DIM), torch.ones(DIM)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return mnist(MNIST())


def test_fid_of_identical_sets_is_zero() -> None:
    images = gaussian_images(300, ZERO, ONE, 0)
    metrics = image_metrics(images, None, images.clone(), PixelFeatures(), None)
    assert metrics["fid"] == pytest.approx(0, abs=1e-8)
    assert "label_accuracy" not in metrics


def test_fid_of_gaussians_is_the_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hldm.metrics.images.KID_SUBSETS", 1)  # not asked for here, and slow at this size
    mean, sd = torch.linspace(-1, 1, DIM), torch.linspace(0.5, 1.5, DIM)
    samples, reference = gaussian_images(10_000, mean, sd, 0), gaussian_images(10_000, ZERO, ONE, 1)
    fid = image_metrics(samples, None, reference, PixelFeatures(), None)["fid"]
    # diagonal covariances: |μ − μ'|² + Σ (σ − σ')²
    population = (mean.square().sum() + (sd - 1).square().sum()).item()
    assert fid == pytest.approx(population, rel=0.03)
    # and of the moments of these very samples, by the matrix square root
    a, b = (((x.flatten(1).double() - 128) / 16).numpy() for x in (samples, reference))
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    exact = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s + t - 2 * sqrtm(s @ t).real)
    assert fid == pytest.approx(exact, rel=1e-8)


def test_kid_is_unbiased() -> None:
    reference = gaussian_images(200, ZERO, ONE, 0)
    kids = [
        image_metrics(gaussian_images(200, ZERO, ONE, seed), None, reference, PixelFeatures(), None)["kid"]
        for seed in range(1, 13)
    ]
    x = ((reference.flatten(1).double() - 128) / 16).numpy()
    kernel = (x @ x.T / DIM + 1) ** 3
    # what the biased estimator would add: the diagonal instead of a typical entry, on both sides
    bias = 2 * (np.trace(kernel) / 200 - kernel.mean()) / 200
    assert abs(np.mean(kids)) < 0.25 * bias
    assert min(kids) < 0
    apart = image_metrics(gaussian_images(200, ZERO + 0.5, ONE, 1), None, reference, PixelFeatures(), None)
    assert apart["kid"] > bias


def test_kid_of_samples_that_have_the_classes_of_the_reference_is_unbiased() -> None:
    """Classes are far apart, and both sides have as many of each: there are fewer pairs of one class than by chance."""
    sizes = torch.tensor([30, 60, 90])
    labels = torch.arange(3).repeat_interleave(sizes)
    means = 1.5 * torch.randn(3, 4, generator=Generator().manual_seed(0), dtype=torch.float64)

    def images(seed: int) -> Tensor:
        return means[labels] + torch.randn(180, 4, generator=Generator().manual_seed(seed), dtype=torch.float64)

    def kids(classes: tuple[Tensor, Tensor] | None) -> Tensor:
        draws = range(1, 60, 2)
        found = [kernel_distance(images(i), images(i + 1), classes=classes)["kid"] for i in draws]
        return torch.tensor(found, dtype=torch.float64)

    plain, counted = kids(None), kids((labels, labels))
    error = float(counted.std()) / 30**0.5
    assert abs(float(counted.mean())) < 3 * error
    assert float(plain.mean()) < -5 * error
    assert lacking_pairs(images(0), torch.zeros(180, dtype=torch.long)) == 0
    # each class once: nothing says how alike two of a class are
    assert lacking_pairs(images(0)[:3], torch.arange(3)) == 0


def test_inception_score_lies_between_one_and_the_number_of_classes() -> None:
    reference = gaussian_images(100, ZERO, ONE, 0)
    same = torch.full((1000, 1, 3, 4), 128, dtype=torch.uint8)
    assert image_metrics(same, None, reference, PixelFeatures(), None)["inception_score"] == pytest.approx(1)
    sure = torch.zeros(5_000, DIM, dtype=torch.uint8)
    sure[torch.arange(5_000), torch.arange(5_000) % 10] = 255
    score = image_metrics(sure.view(-1, 1, 3, 4), None, reference, PixelFeatures(), None)["inception_score"]
    assert 9.9 < score <= 10


@pytest.mark.filterwarnings("ignore:.*will save all extracted features.*")  # torchmetrics' KID says so each time
def test_agrees_with_the_libraries_own_entry_points() -> None:
    import torch_fidelity
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    class Registered(FeatureExtractorBase):
        def __init__(self, name: str, features_list: list[str], **kwargs: object) -> None:
            super().__init__(name, features_list)
            self.pixels = PixelFeatures()

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            named = dict(zip(("features", "logits"), self.pixels(images), strict=True))
            return tuple(named[name] for name in self.features_list)

    class Images(torch.utils.data.Dataset[Tensor]):
        def __init__(self, images: Tensor) -> None:
            self.images = images

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, i: int) -> Tensor:
            return self.images[i]

    samples, reference = gaussian_images(300, ZERO + 0.3, 1.2 * ONE, 0), gaussian_images(300, ZERO, ONE, 1)
    ours = image_metrics(samples, None, reference, PixelFeatures(), None, seed=7)

    torch_fidelity.register_feature_extractor("pixels", Registered)
    theirs = torch_fidelity.calculate_metrics(
        input1=Images(samples),
        input2=Images(reference),
        feature_extractor="pixels",
        isc=True,
        fid=True,
        kid=True,
        kid_subsets=KID_SUBSETS,
        kid_subset_size=300,
        rng_seed=7,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    assert ours["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert ours["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert ours["inception_score"] == pytest.approx(theirs["inception_score_mean"], rel=1e-6)
    assert ours["inception_score_split_sd"] == pytest.approx(theirs["inception_score_std"], rel=1e-5)

    class Features(nn.Module):
        num_features = DIM

        def forward(self, images: Tensor) -> Tensor:
            return (images.flatten(1).float() - 128) / 16

    fid = FrechetInceptionDistance(feature=Features(), input_img_size=(1, 3, 4))
    # one subset that holds everything
    kid = KernelInceptionDistance(feature=Features(), subsets=2, subset_size=300)
    for metric in (fid, kid):
        metric.update(reference, real=True)
        metric.update(samples, real=False)
    assert ours["fid"] == pytest.approx(fid.compute().item(), rel=1e-4)
    assert ours["kid"] == pytest.approx(kid.compute()[0].item(), rel=1e-3)


def test_same_inputs_give_the_same_bits_and_the_seed_matters(digits: Dataset) -> None:
    samples, labels = digits.train.first(300), digits.train.labels[:300]
    runs = [
        image_metrics(samples, labels, digits.test.first(400), DigitFeatures(), DigitClassifier(), seed=seed)
        for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1]
    assert runs[0]["fid"] == runs[2]["fid"]
    assert runs[0]["inception_score"] != runs[2]["inception_score"]
    assert runs[0]["label_accuracy"] > 0.98


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    images = gaussian_images(100, ZERO, ONE, 0)
    image_metrics(images, None, images, PixelFeatures(), None)
    assert capfd.readouterr() == ("", "")


def test_the_reference_is_looked_at_once() -> None:
    samples, reference = gaussian_images(50, ZERO, ONE, 0), gaussian_images(400, ZERO, ONE, 1)
    extractor = PixelFeatures()
    first = image_metrics(samples, None, reference, extractor, None)
    assert extractor.seen == 450
    assert image_metrics(samples, None, reference, extractor, None) == first
    assert extractor.seen == 500
    # another tensor is another reference
    assert image_metrics(samples, None, gaussian_images(400, ONE, ONE, 2), extractor, None)["fid"] != first["fid"]


def test_collapsed_samples_get_honest_numbers(digits: Dataset) -> None:
    same = digits.test.first(1).expand(200, -1, -1, -1)
    labels = torch.arange(200) % 10
    metrics = image_metrics(same, labels, digits.test.first(500), DigitFeatures(), DigitClassifier())
    assert all(np.isfinite(value) for value in metrics.values())
    assert metrics["inception_score"] == pytest.approx(1)
    assert metrics["label_accuracy"] == pytest.approx(0.1)
    honest = image_metrics(digits.train.first(200), None, digits.test.first(500), DigitFeatures(), None)
    assert metrics["fid"] > 5 * honest["fid"]


def test_too_few_samples_are_refused() -> None:
    images = gaussian_images(9, ZERO, ONE, 0)
    with pytest.raises(UserError, match=r"metrics\.samples"):
        image_metrics(images, None, images, PixelFeatures(), None)


def test_the_floor_is_that_of_real_images(digits: Dataset) -> None:
    reference, extractor = digits.test.first(500), DigitFeatures()
    small, large = (real_floor(digits.train.first(n), reference, extractor, seed=0) for n in (100, 500))
    assert set(small) == {
        *(f"floor_{name}" for name in ("fid", "kid", "kid_subset_sd", "inception_score", "inception_score_split_sd")),
        *(f"floor_{name}" for name in ("precision", "recall", "density", "coverage")),
    }
    assert 0 < large["floor_fid"] < small["floor_fid"]  # FID is biased upwards, the more so with few images


def test_digit_features_refuse_other_images() -> None:
    with pytest.raises(UserError, match="metrics=inception"):
        image_metrics(gaussian_images(20, ZERO, ONE, 0), None, gaussian_images(20, ZERO, ONE, 0), DigitFeatures(), None)


def test_absent_inception_weights_are_explained(tmp_path: Path) -> None:
    for weights in (None, str(tmp_path / "absent.pth")):
        for ask in (check_inception_weights, InceptionFeatures):
            with pytest.raises(UserError, match=r"pt_inception-2015-12-05-6726825d\.pth.*metrics\.weights=<that file>"):
                ask(weights)
    wrong = tmp_path / "wrong.pth"
    wrong.write_bytes(b"hello")
    with pytest.raises(UserError, match=r"wrong\.pth does not hold"):
        InceptionFeatures(str(wrong))
    torch.save({"fc.bias": torch.zeros(3)}, wrong)
    with pytest.raises(UserError, match=r"wrong\.pth does not hold"):
        InceptionFeatures(str(wrong))


def test_images_that_are_no_bytes_are_refused() -> None:
    images = gaussian_images(20, ZERO, ONE, 0)
    for pair in [(images / 255, images), (images, images / 255), (images.long(), images)]:
        with pytest.raises(UserError, match=r"uint8.*(float32|int64).*hldm\.images\.to_uint8"):
            image_metrics(pair[0], None, pair[1], PixelFeatures(), None)


def test_inception_reads_its_weights_and_takes_grey_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_fidelity import feature_extractor_inceptionv3 as inception

    class Untrained(inception.FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: object) -> None:
            """Stays as initialised."""

    with monkeypatch.context() as patch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        torch.save(Untrained("untrained", ["2048"]).state_dict(), tmp_path / "inception.pth")
    extractor = InceptionFeatures(str(tmp_path / "inception.pth"))
    assert len(extractor.sha256) == 64
    grey = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8, generator=Generator().manual_seed(0))
    features, logits = extractor(grey)
    assert features.shape == (2, 2048)
    assert logits.shape == (2, 1008)
    assert torch.equal(features, extractor(grey.repeat(1, 3, 1, 1))[0])
    assert not torch.equal(features[0], features[1])
