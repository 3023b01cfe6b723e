"""Feature extractors: where FID, KID and the other measures of samples look at images.

An extractor maps a batch of uint8 images (N, C, H, W) to features (N, D) and logits (N, K), and knows its `name`, the
`sha256` of its weights and, where it is a classifier of the data set at hand, its test `accuracy`. One that knows no
classes gives logits (N, 0).
"""

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path

import torch
from torch import Tensor, nn

from hldm.metrics.classifier import DigitClassifier, outputs, weights_sha256
from hldm.metrics.references import Reference, Streamed, load_features, save_features, tensor_digest

REMEMBERED = 4
"""References that an extractor keeps: test and validation images, training images, the floor's."""


class FeatureExtractor(nn.Module, ABC):
    """A frozen network in evaluation mode. It remembers the last references, which seldom change.

    Attributes:
        name: what it is called in tables, and what the names of its metrics end in where it does not lead.
        sha256: of its weights.
        accuracy: share of test images classified as labelled; None where it classifies nothing.
        preprocessing: what it does to images besides its weights, in words that change whenever that changes. Features
            of references are kept on the disk by it; None: they never are.
    """

    name: str
    sha256: str
    accuracy: float | None
    preprocessing: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self._references: list[tuple[Tensor | Streamed, Reference]] = []

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N, C, H, W) → features (N, D) and logits (N, K)."""

    def reference(self, images: Tensor | Streamed, batch_size: int, cache: Path | None = None) -> Reference:
        """What metrics need to know of real images.

        Args:
            images: uint8 (M, C, H, W), or a split of them. One of the last that were handed in is not looked at again.
            batch_size: how many images are looked at at once.
            cache: folder of features that earlier runs have computed; None: look at the images.
        """
        for known, reference in self._references:
            if known is images:
                return reference
        path = None
        if cache is not None and self.preprocessing is not None:
            path = cache / f"{self.name}-{self._identity(images, batch_size)}.safetensors"
        features = load_features(path) if path else None
        if features is None:
            features = outputs(self, images, batch_size)[0]
            if path:
                save_features(path, features)
        reference = Reference(features)
        self._references = [(images, reference), *self._references[: REMEMBERED - 1]]
        return reference

    def reference_features(self, reference: Tensor | Streamed, batch_size: int, cache: Path | None = None) -> Tensor:
        """The features (M, D) of `reference`, in float64."""
        return self.reference(reference, batch_size, cache).features

    def _identity(self, images: Tensor | Streamed, batch_size: int) -> str:
        """A hash over all that decides the features of images to the last bit: what is kept serves equal runs only."""
        state = self.state_dict()
        device = next((tensor.device for tensor in state.values()), torch.device("cpu"))
        processor = (
            torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
        )
        known = (
            *(f"{type(self).__module__}.{type(self).__qualname__}", self.sha256, self.preprocessing),
            *(weights_sha256(state), tensor_digest(images) if isinstance(images, Tensor) else images.fingerprint),
            *(batch_size, torch.__version__, torch.get_num_threads(), processor),
        )
        return hashlib.sha256(repr(known).encode()).hexdigest()[:32]


class DigitFeatures(FeatureExtractor):
    """Mean activations of the last convolution of `DigitClassifier`, and its logits: D = 64, K = 10.

    Args:
        weights: a file that `python -m hldm.training.digit_classifier` wrote; None: the bundled one.
    """

    name = "digits"
    preprocessing = "28 × 28 grey, of mean 0.1307 and deviation 0.3081"

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.classifier = DigitClassifier(weights)
        self.sha256 = self.classifier.sha256
        self.accuracy: float | None = self.classifier.accuracy

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.classifier(images)
