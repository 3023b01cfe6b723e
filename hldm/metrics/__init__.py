"""Sample quality, reconstruction, and the hierarchy of the latents: functions of tensors, which know no data set."""

from hldm.metrics.classifier import DigitClassifier, label_accuracy, outputs, predictive_entropy
from hldm.metrics.extractors import DigitFeatures, FeatureExtractor, InceptionFeatures
from hldm.metrics.gromov import gromov_delta
from hldm.metrics.hierarchy import curvature_reach, latent_hierarchy, signal_and_noise
from hldm.metrics.images import balanced_draw, frechet_distance, image_metrics, real_floor
from hldm.metrics.tree_levels import level_metrics
from hldm.metrics.tree_metrics import node_metrics
from hldm.metrics.tree_test import tree_test

__all__ = [
    "DigitClassifier",
    "DigitFeatures",
    "FeatureExtractor",
    "InceptionFeatures",
    "balanced_draw",
    "curvature_reach",
    "frechet_distance",
    "gromov_delta",
    "image_metrics",
    "label_accuracy",
    "latent_hierarchy",
    "level_metrics",
    "node_metrics",
    "outputs",
    "predictive_entropy",
    "real_floor",
    "signal_and_noise",
    "tree_test",
]
