"""A small digit classifier: the features of FID and KID, the logits of IS, and the judge of class-conditional samples.

Inception expects colour photographs; on 28 × 28 grey digits its features say little. `hldm.metrics.train_classifier`
trains this network; the bundled weights carry how, and how good they are, in their header.
Legend: N images of 28 × 28, D features, K = 10 classes.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hldm.errors import UserError

BUNDLED_WEIGHTS = Path(__file__).parent / "weights" / "digits.safetensors"
FEATURES = 96


class DigitClassifier(nn.Module):
    """Five convolutions, the mean over positions, one linear layer: 78,298 parameters."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        # 28 → 14 → 7: a stride of 2 in place of pooling
        for inputs, outputs, stride in [(1, 24, 1), (24, 24, 2), (24, 48, 1), (48, 48, 2), (48, FEATURES, 1)]:
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(FEATURES, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N, 1, 28, 28) → features (N, D) ≥ 0 and logits (N, K)."""
        x = (images.float() / 255 - 0.1307) / 0.3081  # mean and deviation of the training pixels
        features = self.body(x.contiguous(memory_format=torch.channels_last)).mean(dim=(2, 3))
        return features, self.head(features)


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier with what its file says about it.

    Attributes:
        network: in evaluation mode, without gradients.
        accuracy: share of the test set that it classifies as labelled, as measured when it was trained.
        sha256: of its weights, see `weights_sha256`.
    """

    network: DigitClassifier
    accuracy: float
    sha256: str


def weights_sha256(state: dict[str, Tensor]) -> str:
    """Hash over names and bytes of all tensors, in the order of their names: independent of the file's header."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_classifier(weights: str | None = None) -> TrainedClassifier:
    """The bundled classifier, or one from a file that `python -m hldm.metrics.train_classifier` wrote.

    Raises:
        UserError: the file is missing, is not such a file, or its weights are not those that its header states.
    """
    path = Path(weights).expanduser() if weights is not None else BUNDLED_WEIGHTS
    remedy = (
        "Use metrics.weights=null for the bundled classifier, or train one: "
        "python -m hldm.metrics.train_classifier --out <file>."
    )
    if not path.is_file():
        raise UserError(f"metrics.weights={path} is not a file. {remedy}")
    network = DigitClassifier()
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        network.load_state_dict(state)
        # floats are stored as JSON, so that what is read is what was measured
        accuracy, stated = float(json.loads(metadata["test_accuracy"])), metadata["sha256"]
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} does not hold a digit classifier ({reason}). {remedy}") from None
    sha256 = weights_sha256(state)
    if sha256 != stated:
        raise UserError(f"{path} is damaged: its weights do not have the hash that its header states. {remedy}")
    return TrainedClassifier(network.eval().requires_grad_(False), accuracy, sha256)
