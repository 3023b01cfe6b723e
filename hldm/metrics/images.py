"""Sample quality: FID, KID and IS as torch-fidelity computes them, and whether samples show what they should.

All of them depend on the extractor and the number of samples; FID is biased by an amount that depends on both. So
compare at equal n, and with the floor: the same numbers for n real images.
Legend: N images of C channels and H × W pixels, D features, K classes.
"""

from torch import Tensor, nn

from hldm.errors import UserError
from hldm.metrics.classifier import label_accuracy, outputs
from hldm.metrics.extractors import FeatureExtractor

KID_SUBSETS = 50
KID_SUBSET_SIZE = 1000
IS_SPLITS = 10


def image_metrics(
    samples: Tensor,
    labels: Tensor | None,
    reference: Tensor,
    extractor: FeatureExtractor,
    classifier: nn.Module | None,
    *,
    batch_size: int = 500,
    seed: int = 0,
) -> dict[str, float]:
    """How good and how varied the samples are.

    Args:
        samples: uint8 (N, C, H, W), N ≥ 10.
        labels: (N,) the class that each sample was asked to show, or None.
        reference: uint8 (M, C, H, W) real images. Hand in the same tensor again: its features are kept.
        extractor: see `hldm.metrics.extractors`.
        classifier: judges the labels; None: nobody does.
        batch_size: how many images the extractor sees at once. Beside the number of threads, it alone moves last bits.
        seed: seed of KID's random subsets and of the order in which IS splits the samples.

    Returns:
        fid: Fréchet distance of two Gaussians with the moments of the features (Heusel et al. 2017), ≥ 0.
        kid, kid_subset_sd: unbiased squared MMD with the cubic kernel (Bińkowski et al. 2018), its mean and standard
            deviation over 50 subsets of 1,000 (or of all, where there are fewer). Around 0 for equal distributions, so
            it can be negative.
        inception_score, inception_score_split_sd: over 10 splits (Salimans et al. 2016), between 1 and K.
        label_accuracy: share of samples that are classified as their label; only with labels and a classifier.
    """
    if len(samples) < IS_SPLITS or len(reference) < IS_SPLITS:
        raise UserError(
            f"FID, KID and IS need at least {IS_SPLITS} samples and reference images, not {len(samples)} and "
            f"{len(reference)}. Set metrics.samples to {IS_SPLITS} or more; 5000 is the default."
        )
    # late: torch-fidelity takes seconds to import. Its functions of features are used directly, so that the reference
    # is looked at once and nothing is printed; a test holds them equal to its calculate_metrics.
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    features, logits = outputs(extractor, samples, batch_size)
    real = extractor.reference_features(reference, batch_size)
    subset = min(KID_SUBSET_SIZE, len(features), len(real))
    kid = kid_features_to_metric(
        features, real, kid_subsets=KID_SUBSETS, kid_subset_size=subset, rng_seed=seed, verbose=False
    )
    isc = isc_features_to_metric(logits, splits=IS_SPLITS, shuffle=True, rng_seed=seed)
    metrics = {
        "fid": frechet_distance(features, real),
        "kid": kid[KEY_METRIC_KID_MEAN],
        "kid_subset_sd": kid[KEY_METRIC_KID_STD],
        "inception_score": isc[KEY_METRIC_ISC_MEAN],
        "inception_score_split_sd": isc[KEY_METRIC_ISC_STD],
    }
    if labels is not None and classifier is not None:
        metrics["label_accuracy"] = label_accuracy(classifier, samples, labels, batch_size)
    return metrics


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """FID of features (N, D) against those of the reference (M, D), both float64."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    statistics = fid_features_to_statistics(features), fid_features_to_statistics(reference)
    return float(fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID])


def real_floor(
    real: Tensor, reference: Tensor, extractor: FeatureExtractor, *, batch_size: int = 500, seed: int = 0
) -> dict[str, float]:
    """The scores of real images in place of samples: no model can be expected to do better.

    Args:
        real: uint8 (N, C, H, W) training images, of the classes that the samples were asked to show.
        reference: uint8 (M, C, H, W), disjoint from them.

    Returns:
        floor_<name> for every name of `image_metrics` but label_accuracy.
    """
    metrics = image_metrics(real, None, reference, extractor, None, batch_size=batch_size, seed=seed)
    return {f"floor_{name}": value for name, value in metrics.items()}
