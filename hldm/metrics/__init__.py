"""Sample quality, reconstruction, and the hierarchy of the latents: functions of tensors, which know no data set."""

from hldm.metrics.bootstrap import sample_spread, share_spread
from hldm.metrics.classifier import DigitClassifier, label_accuracy, outputs, predictive_entropy
from hldm.metrics.extractors import DigitFeatures, FeatureExtractor, InceptionFeatures
from hldm.metrics.gromov import gromov_delta
from hldm.metrics.hierarchy import curvature_reach, latent_hierarchy
from hldm.metrics.images import frechet_distance, image_metrics, real_floor
from hldm.metrics.shares import class_counts, draw_like, labels_like

__all__ = [
    "DigitClassifier",
    "DigitFeatures",
    "FeatureExtractor",
    "InceptionFeatures",
    "class_counts",
    "curvature_reach",
    "draw_like",
    "frechet_distance",
    "gromov_delta",
    "image_metrics",
    "label_accuracy",
    "labels_like",
    "latent_hierarchy",
    "outputs",
    "predictive_entropy",
    "real_floor",
    "sample_spread",
    "share_spread",
]
