"""Sample quality, reconstruction, and the hierarchy of the latents.

Names are imported on first use: `hldm.metrics.weights` has to stay free of torch for the check before a run.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hldm.metrics.classifier import DigitClassifier, label_accuracy, predictive_entropy
    from hldm.metrics.extractors import DigitFeatures, FeatureExtractor, InceptionFeatures
    from hldm.metrics.gromov import gromov_delta
    from hldm.metrics.hierarchy import latent_hierarchy
    from hldm.metrics.images import image_metrics, real_floor
    from hldm.metrics.weights import check_inception_weights

_MODULES = {
    "DigitClassifier": "classifier",
    "label_accuracy": "classifier",
    "predictive_entropy": "classifier",
    "DigitFeatures": "extractors",
    "FeatureExtractor": "extractors",
    "InceptionFeatures": "extractors",
    "gromov_delta": "gromov",
    "latent_hierarchy": "hierarchy",
    "image_metrics": "images",
    "real_floor": "images",
    "check_inception_weights": "weights",
}

__all__ = [
    "DigitClassifier",
    "DigitFeatures",
    "FeatureExtractor",
    "InceptionFeatures",
    "check_inception_weights",
    "gromov_delta",
    "image_metrics",
    "label_accuracy",
    "latent_hierarchy",
    "predictive_entropy",
    "real_floor",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
