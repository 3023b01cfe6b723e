"""Sample quality: FID, KID and IS as torch-fidelity computes them, precision, recall, density and coverage, and whether
samples show what they should.

All of them depend on the extractor and the number of samples; FID is biased by an amount that depends on both. So
compare at equal n, and with the floor: the same numbers for n real images.
Legend: N samples and M real images of C channels and H × W pixels, D features, K classes.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from hldm.errors import UserError
from hldm.metrics.bootstrap import cubic_kernel
from hldm.metrics.classifier import label_accuracy, outputs
from hldm.metrics.extractors import FeatureExtractor
from hldm.metrics.neighbours import precision_recall_density_coverage
from hldm.metrics.references import Reference, Streamed

Classes = tuple[Tensor, Tensor]
"""int64 (N,) and (M,): the class of each sample and of each real image, where samples show the classes of these."""

KID_SUBSETS = 50
KID_SUBSET_SIZE = 1000
KERNEL_IMAGES = 1000
"""That a mean kernel is estimated from: few hundredths of a correction that is small itself, in no time."""
IS_SPLITS = 10


def image_metrics(
    samples: Tensor,
    labels: Tensor | None,
    reference: Tensor | Streamed,
    extractor: FeatureExtractor,
    classifier: nn.Module | None,
    *,
    classes: Classes | None = None,
    batch_size: int = 500,
    seed: int = 0,
    cache: Path | None = None,
) -> dict[str, float]:
    """How good and how varied the samples are.

    Args:
        samples: uint8 (N, C, H, W), N ≥ 10.
        labels: (N,) the class that each sample was asked to show, or None.
        reference: uint8 (M, C, H, W) real images, or a split of them. Hand in the same again: its features are kept.
        extractor: see `hldm.metrics.extractors`.
        classifier: judges the labels; None: nobody does.
        classes: see `kernel_distance`.
        batch_size: how many images the extractor sees at once. Beside the number of threads, it alone moves last bits.
        seed: seed of KID's random subsets and of the order in which IS splits the samples.
        cache: see `FeatureExtractor.reference`.

    Returns:
        what `feature_metrics` returns, and
        label_accuracy: share of samples that are classified as their label; only with labels and a classifier.
    """
    features, logits = outputs(extractor, samples, batch_size)
    expected = extractor.reference(reference, batch_size, cache)
    metrics = feature_metrics(features, logits, expected, classes=classes, seed=seed)
    if labels is not None and classifier is not None:
        metrics["label_accuracy"] = label_accuracy(classifier, samples, labels, batch_size)
    return metrics


def feature_metrics(
    features: Tensor, logits: Tensor | None, reference: Reference, *, classes: Classes | None = None, seed: int = 0
) -> dict[str, float]:
    """The metrics that need no more of the samples than their features.

    Args:
        features: float64 (N, D), N ≥ 10.
        logits: float64 (N, K), or None; without any there is no inception score.
        reference: of real images, M ≥ 10, by the same extractor.
        classes: see `kernel_distance`.
        seed: see `image_metrics`.

    Returns:
        fid: Fréchet distance of two Gaussians with the moments of the features (Heusel et al. 2017), ≥ 0.
        kid, kid_subset_sd: see `kernel_distance`.
        precision, recall, density, coverage: see `precision_recall_density_coverage`.
        inception_score, inception_score_split_sd: over 10 splits (Salimans et al. 2016), between 1 and K.
    """
    real = reference.features
    if len(features) < IS_SPLITS or len(real) < IS_SPLITS:
        raise UserError(
            f"FID, KID and IS need at least {IS_SPLITS} samples and reference images, not {len(features)} and "
            f"{len(real)}. Set metrics.samples to {IS_SPLITS} or more; 5000 is the default."
        )
    metrics = {"fid": frechet_distance(features, reference)}
    metrics |= kernel_distance(features, real, classes=classes, seed=seed)
    metrics |= precision_recall_density_coverage(features, real, reference.radii)
    if logits is not None and logits.shape[1]:
        # late: torch-fidelity takes seconds to import. Its functions of features are used directly, so that the
        # reference is looked at once and nothing is printed; a test holds them equal to its calculate_metrics.
        from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

        isc = isc_features_to_metric(logits, splits=IS_SPLITS, shuffle=True, rng_seed=seed)
        metrics["inception_score"] = isc[KEY_METRIC_ISC_MEAN]
        metrics["inception_score_split_sd"] = isc[KEY_METRIC_ISC_STD]
    return metrics


def frechet_distance(features: Tensor, reference: Tensor | Reference) -> float:
    """FID of features (N, D) against those of the reference (M, D), both float64."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    real = reference if isinstance(reference, Reference) else Reference(reference)
    return float(
        fid_statistics_to_metric(fid_features_to_statistics(features), real.statistics, verbose=False)[KEY_METRIC_FID]
    )


def kernel_distance(
    features: Tensor, real: Tensor, *, classes: Classes | None = None, seed: int = 0
) -> dict[str, float]:
    """KID of features (N, D) against those of real images (M, D), both float64.

    Args:
        classes: of samples that show each class as often as the real images do, and of these. KID then counts pairs of
            one class as often as independent draws would have them; without it, it is too small by `lacking_pairs`.

    Returns:
        kid, kid_subset_sd: unbiased squared MMD with the cubic kernel (Bińkowski et al. 2018), its mean and standard
            deviation over 50 subsets of 1,000 (or of all, where there are fewer). Around 0 for equal distributions, so
            it can be negative.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    size = min(KID_SUBSET_SIZE, len(features), len(real))
    kid = kid_features_to_metric(
        features, real, kid_subsets=KID_SUBSETS, kid_subset_size=size, rng_seed=seed, verbose=False
    )
    lacking = 0.0 if classes is None else sum(map(lacking_pairs, (features, real), classes))
    return {"kid": kid[KEY_METRIC_KID_MEAN] + lacking, "kid_subset_sd": kid[KEY_METRIC_KID_STD]}


def lacking_pairs(features: Tensor, labels: Tensor) -> float:
    """By how much the mean kernel of two different images is too small where the number of each class is fixed.

        (Σ_c p_c κ_cc − Σ_cd p_c p_d κ_cd) / (n − 1),   κ_cd the mean kernel of an image of class c and one of class d

    Of n images with n·p_c of class c a pair is of one class with (n p_c − 1)/(n − 1), of n draws with p_c.

    Args:
        features: float64 (n, D), and labels, int64 (n,). κ are of at most `KERNEL_IMAGES` of them.
    """
    n, some = len(features), torch.randperm(len(features), generator=Generator().manual_seed(0))[:KERNEL_IMAGES]
    x, shown = features[some], torch.unique(labels[some], return_inverse=True)[1]
    kernel = cubic_kernel(x, x)
    one_hot = torch.nn.functional.one_hot(shown).to(kernel)
    sizes, sums = one_hot.sum(0), one_hot.T @ kernel @ one_hot
    own = sums.diagonal() - one_hot.T @ kernel.diagonal()
    pairs = sizes * (sizes - 1)
    several = pairs > 0
    if len(sizes) < 2 or not several.any():
        return 0.0
    within = torch.where(several, own / pairs.clamp(min=1), own.sum() / pairs.sum())  # of one image: as of the others
    across = sums / torch.outer(sizes, sizes)
    across.diagonal().copy_(within)
    p = sizes / sizes.sum()
    return float((p @ within - p @ across @ p) / (n - 1))


def class_distances(
    features: Tensor, labels: Tensor, real: Tensor, real_labels: Tensor, class_names: Sequence[str]
) -> dict[str, float]:
    """FID of each class's samples against its real images.

    A class counts for itself here: classes that make up for each other in FID do not. It is biased upwards far more
    than FID, as each class has few images: compare at equal n only.

    Args:
        features: float64 (N, D) of samples, and labels (N,): the class that each was asked to show.
        real: float64 (M, D) of real images, and real_labels (M,).
        class_names: one per class, in the order of the labels.

    Returns:
        fid_class_<name> for every class.

    Raises:
        UserError: a class has D samples or real images or fewer, whose covariance is singular.
    """
    least = features.shape[1] + 1
    for what, given in (("samples", labels), ("reference images", real_labels)):
        counts = given.bincount(minlength=len(class_names))
        if (fewest := int(counts.min())) < least:
            raise UserError(
                f"metrics.per_class=true needs {least} {what} of each class at least, one more than there are "
                f"features, and class {class_names[int(counts.argmin())]} has {fewest}. Type "
                f"metrics.samples={least * len(class_names)} or more, or metrics.per_class=false."
            )
    return {
        f"fid_class_{name}": frechet_distance(features[labels == label], real[real_labels == label])
        for label, name in enumerate(class_names)
    }


def real_floor(
    real: Tensor,
    reference: Tensor | Streamed,
    extractor: FeatureExtractor,
    *,
    classes: Classes | None = None,
    batch_size: int = 500,
    seed: int = 0,
    cache: Path | None = None,
) -> dict[str, float]:
    """The scores of real images in place of samples: no model can be expected to do better.

    Args:
        real: uint8 (N, C, H, W) training images, of the classes that the samples were asked to show.
        reference: uint8 (M, C, H, W), disjoint from them.
        classes: see `kernel_distance`.

    Returns:
        floor_<name> for every name of `image_metrics` but label_accuracy.
    """
    metrics = image_metrics(
        real, None, reference, extractor, None, classes=classes, batch_size=batch_size, seed=seed, cache=cache
    )
    return {f"floor_{name}": value for name, value in metrics.items()}
