"""Features of digits from a network that never saw a label, so that no class pulls the digits of its kind together.

The features of `DigitClassifier` keep what tells classes apart and may drop what does not: they prefer digits that are
clearer than real ones. These were learned by telling each digit from all others (SimCLR, Chen et al. 2020), so they
keep the hand as well: slant, width, thickness, loops. `hldm.training.unlabelled_digits` trains them; the header of the
bundled weights says how, and how good they are.
Legend: N images of 28 × 28, D features.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from hldm.config.weights import UNLABELLED_REMEDY, check_unlabelled_weights
from hldm.errors import UserError
from hldm.metrics.classifier import load_network
from hldm.metrics.extractors import FeatureExtractor

BUNDLED_WEIGHTS = Path(__file__).parent / "weights" / "unlabelled.safetensors"
FEATURES = 64


class UnlabelledNetwork(nn.Module):
    """Four convolutions, then one linear layer over all positions, scaled to a variance of 1: 91,528 parameters.

    Where things are counts here, unlike in the mean over positions of `DigitNetwork`.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        # 28 → 14 → 7 → 4
        for inputs, outputs, kernel, stride in [(1, 24, 5, 2), (24, 32, 3, 2), (32, 48, 3, 1), (48, 48, 3, 2)]:
            layers += [
                nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(48 * 4 * 4, FEATURES, bias=False), nn.BatchNorm1d(FEATURES, affine=False)
        )

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, 1, 28, 28) → features (N, D), each of mean 0 and variance 1 over the training digits."""
        x = (images.float() / 255 - 0.1307) / 0.3081  # mean and deviation of the training pixels
        return self.head(self.body(x.contiguous(memory_format=torch.channels_last)))


class UnlabelledFeatures(FeatureExtractor):
    """The trained network as an extractor: D = 64, no logits.

    Args:
        weights: a file that `python -m hldm.training.unlabelled_digits` wrote; None: the bundled one.

    Attributes:
        figures: what the file's header says about its quality, text by text.

    Raises:
        UserError: the file is missing, is not such a file, or its weights are not those that its header states.
    """

    name = "unlabelled"
    accuracy: float | None = None
    preprocessing = "28 × 28 grey, of mean 0.1307 and deviation 0.3081"

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        path = check_unlabelled_weights(weights) or BUNDLED_WEIGHTS
        self.network = UnlabelledNetwork()
        self.figures = load_network(self.network, path, "unlabelled features", UNLABELLED_REMEDY)
        self.sha256 = self.figures["sha256"]
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N, 1, 28, 28) → features (N, D) and no logits, (N, 0)."""
        if images.shape[1:] != (1, 28, 28):
            raise UserError(
                f"The unlabelled features see grey images of 28 × 28 pixels, not {tuple(images.shape[1:])}. "
                "Use metrics=inception for other images."
            )
        features = self.network(images)
        return features, features[:, :0]
