"""Feature extractors: where FID, KID and IS look at images.

An extractor maps a batch of uint8 images (N, C, H, W) to features (N, D) and logits (N, K), and knows its `name`, the
`sha256` of its weights and, where it is a classifier of the data set at hand, its test `accuracy`.
"""

import hashlib
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from hldm.config.weights import check_inception_weights
from hldm.errors import UserError
from hldm.metrics.classifier import DigitClassifier, outputs


class FeatureExtractor(nn.Module, ABC):
    """A frozen network in evaluation mode. It remembers the outputs of the last reference, which seldom changes."""

    name: str
    sha256: str
    accuracy: float | None

    def __init__(self) -> None:
        super().__init__()
        self._reference: tuple[Tensor, tuple[Tensor, Tensor]] | None = None

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N, C, H, W) → features (N, D) and logits (N, K)."""

    def reference_features(self, reference: Tensor, batch_size: int) -> Tensor:
        """Features (N, D) in float64 of a uint8 tensor. The same tensor as in the last call is not looked at again."""
        if self._reference is None or self._reference[0] is not reference:
            self._reference = reference, outputs(self, reference, batch_size)
        return self._reference[1][0]


class DigitFeatures(FeatureExtractor):
    """Mean activations of the last convolution of `DigitClassifier`, and its logits: D = 64, K = 10.

    Args:
        weights: a file that `python -m hldm.training.digit_classifier` wrote; None: the bundled one.
    """

    name = "digits"

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.classifier = DigitClassifier(weights)
        self.sha256 = self.classifier.sha256
        self.accuracy: float | None = self.classifier.accuracy

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.classifier(images)


class InceptionFeatures(FeatureExtractor):
    """torch-fidelity's port of the Inception v3 that the literature's FID is defined by: D = 2048, K = 1008.

    Grey images are repeated over the three channels.

    Args:
        weights: torch-fidelity's file pt_inception-2015-12-05-6726825d.pth; nothing is ever downloaded.

    Raises:
        UserError: no file is named, it is missing, or it does not hold these weights.
    """

    name = "inception-v3-compat"
    accuracy: float | None = None

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        # late: it takes seconds to import, and only this extractor needs it
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        path = check_inception_weights(weights)
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            torch.load(path, weights_only=True)  # torch-fidelity would run whatever code the file holds
            self.network = FeatureExtractorInceptionV3(
                self.name, ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
            )
        except Exception as error:  # a damaged pickle can raise anything
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(
                f"metrics.weights={path} does not hold torch-fidelity's Inception weights ({reason}). "
                "Download the file again, or use metrics=digits."
            ) from None

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.network(images.expand(-1, 3, -1, -1))
