"""Sample quality, reconstruction, and the hierarchy of the latents.

Names are imported on first use: `hldm.metrics.weights` has to stay free of torch for the check before a run.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hldm.metrics.classifier import DigitClassifier, label_accuracy, outputs, predictive_entropy
    from hldm.metrics.extractors import DigitFeatures, FeatureExtractor, InceptionFeatures
    from hldm.metrics.gromov import gromov_delta
    from hldm.metrics.hierarchy import curvature_reach, latent_hierarchy
    from hldm.metrics.images import balanced_draw, frechet_distance, image_metrics, real_floor
    from hldm.metrics.weights import check_inception_weights, check_vgg_weights

_MODULES = {
    "DigitClassifier": "classifier",
    "label_accuracy": "classifier",
    "outputs": "classifier",
    "predictive_entropy": "classifier",
    "DigitFeatures": "extractors",
    "FeatureExtractor": "extractors",
    "InceptionFeatures": "extractors",
    "gromov_delta": "gromov",
    "curvature_reach": "hierarchy",
    "latent_hierarchy": "hierarchy",
    "balanced_draw": "images",
    "frechet_distance": "images",
    "image_metrics": "images",
    "real_floor": "images",
    "check_inception_weights": "weights",
    "check_vgg_weights": "weights",
}

__all__ = [
    "DigitClassifier",
    "DigitFeatures",
    "FeatureExtractor",
    "InceptionFeatures",
    "balanced_draw",
    "check_inception_weights",
    "check_vgg_weights",
    "curvature_reach",
    "frechet_distance",
    "gromov_delta",
    "image_metrics",
    "label_accuracy",
    "latent_hierarchy",
    "outputs",
    "predictive_entropy",
    "real_floor",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
