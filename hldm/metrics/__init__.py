"""Sample quality, reconstruction, and the hierarchy of the latents: functions of tensors, which know no data set."""

from hldm.metrics.bootstrap import sample_spread, share_spread
from hldm.metrics.classifier import DigitClassifier, label_accuracy, outputs, predictive_entropy
from hldm.metrics.copying import Memorisation, memorisation, pixel_memorisation
from hldm.metrics.extractors import DigitFeatures, FeatureExtractor
from hldm.metrics.gromov import gromov_delta
from hldm.metrics.hierarchy import curvature_reach, latent_hierarchy, signal_and_noise
from hldm.metrics.images import (
    class_distances,
    feature_metrics,
    frechet_distance,
    image_metrics,
    kernel_distance,
    real_floor,
)
from hldm.metrics.neighbours import precision_recall_density_coverage
from hldm.metrics.photographs import DINOv2Features, InceptionFeatures
from hldm.metrics.pixels import PixelFeatures
from hldm.metrics.reconstruction import reconstruction_metrics
from hldm.metrics.references import Reference
from hldm.metrics.shares import class_counts, draw_like, labels_like
from hldm.metrics.tree_levels import level_metrics
from hldm.metrics.tree_metrics import node_metrics
from hldm.metrics.tree_test import tree_test
from hldm.metrics.unlabelled import UnlabelledFeatures

__all__ = [
    "DINOv2Features",
    "DigitClassifier",
    "DigitFeatures",
    "FeatureExtractor",
    "InceptionFeatures",
    "Memorisation",
    "PixelFeatures",
    "Reference",
    "UnlabelledFeatures",
    "class_counts",
    "class_distances",
    "curvature_reach",
    "draw_like",
    "feature_metrics",
    "frechet_distance",
    "gromov_delta",
    "image_metrics",
    "kernel_distance",
    "label_accuracy",
    "labels_like",
    "latent_hierarchy",
    "level_metrics",
    "memorisation",
    "node_metrics",
    "outputs",
    "pixel_memorisation",
    "precision_recall_density_coverage",
    "predictive_entropy",
    "real_floor",
    "reconstruction_metrics",
    "sample_spread",
    "share_spread",
    "signal_and_noise",
    "tree_test",
]
