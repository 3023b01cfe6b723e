"""A small digit classifier: the features of FID and KID, the logits of IS, and the judge of class-conditional samples.

Inception expects colour photographs; on 28 × 28 grey digits its features say little. `hldm.training.digit_classifier`
trains this network; the header of the bundled weights says how, and how good they are.
Legend: N images of 28 × 28, D features, K = 10 classes.
"""

import hashlib
import itertools
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hldm.config.weights import DIGITS_REMEDY, check_digit_weights
from hldm.errors import UserError
from hldm.metrics.references import Streamed

BUNDLED_WEIGHTS = Path(__file__).parent / "weights" / "digits.safetensors"
FEATURES = 64


class DigitNetwork(nn.Module):
    """Five convolutions, the mean over positions, one linear layer: 53,002 parameters."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        # 28 → 14 → 7: a stride of 2 in place of pooling
        for inputs, outputs, stride in [(1, 16, 1), (16, 24, 2), (24, 32, 1), (32, 48, 2), (48, FEATURES, 1)]:
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(FEATURES, 10)

    def layers(self, images: Tensor) -> list[Tensor]:
        """[0, 1] (N, 1, 28, 28) → what each of the five convolutions gives, (N, channels, h, w) ≥ 0."""
        x, found = (images - 0.1307) / 0.3081, []
        for module in self.body:
            # not in place, as each of them is looked at
            x = torch.relu(x) if isinstance(module, nn.ReLU) else module(x)
            if isinstance(module, nn.ReLU):
                found.append(x)
        return found

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N, 1, 28, 28) → features (N, D) ≥ 0 and logits (N, K)."""
        x = (images.float() / 255 - 0.1307) / 0.3081  # mean and deviation of the training pixels
        features = self.body(x.contiguous(memory_format=torch.channels_last)).mean(dim=(2, 3))
        return features, self.head(features)


class DigitClassifier(nn.Module):
    """The trained network, with what its file says about it.

    Args:
        weights: a file that `python -m hldm.training.digit_classifier` wrote; None: the bundled one.

    Attributes:
        accuracy: share of the test set classified as labelled, measured when it was trained.
        sha256: of its weights, see `weights_sha256`.

    Raises:
        UserError: the file is missing, is not such a file, or its weights are not those that its header states.
    """

    name = "digits"

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        path = check_digit_weights(weights) or BUNDLED_WEIGHTS
        self.network = DigitNetwork()
        header = load_network(self.network, path, "a digit classifier", DIGITS_REMEDY, numbers=("test_accuracy",))
        self.accuracy, self.sha256 = float(header["test_accuracy"]), header["sha256"]
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N, 1, 28, 28) → features (N, D) and logits (N, K)."""
        if images.shape[1:] != (1, 28, 28):
            raise UserError(
                f"The digit classifier sees grey images of 28 × 28 pixels, not {tuple(images.shape[1:])}. "
                "Use metrics=inception for other images."
            )
        return self.network(images)


def load_network(
    network: nn.Module, path: Path, what: str, remedy: str, *, numbers: tuple[str, ...] = ()
) -> dict[str, str]:
    """Load weights that `hldm.training.digit_classifier.save_network` wrote, and return what the file's header says.

    Args:
        what: the file is expected to hold, and what to do where it does not, for the error.
        numbers: entries of the header, beside the hash, that have to be numbers.

    Raises:
        UserError: the file is not such a file, or its weights are not those that its header states.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, str] = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        network.load_state_dict(state)
        for name in numbers:
            float(header[name])
        stated = header["sha256"]
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} does not hold {what} ({reason}). {remedy}") from None
    if weights_sha256(state) != stated:
        raise UserError(f"{path} is damaged: its weights do not have the hash that its header states. {remedy}")
    return header


def weights_sha256(state: dict[str, Tensor]) -> str:
    """Hash over names and bytes of all tensors, in the order of their names: independent of the file's header."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def outputs(network: nn.Module, images: Tensor | Streamed, batch_size: int = 500) -> tuple[Tensor, Tensor]:
    """Features (N, D) and logits (N, K) of uint8 images (N, C, H, W), or of a split of them, on the CPU in float64.

    float64 from here on: moments and kernels of thousands of features cancel. A batch goes to where the network is.

    Raises:
        UserError: the images are not bytes.
    """
    weights = itertools.chain(network.parameters(), network.buffers())
    device = next((tensor.device for tensor in weights), torch.device("cpu"))
    parts = (
        images.split(batch_size)
        if isinstance(images, Tensor)
        else images.batches(torch.arange(len(images)).split(batch_size))
    )
    features, logits = zip(*[network(_bytes(batch).to(device)) for batch in parts], strict=True)
    return torch.cat(features).cpu().double(), torch.cat(logits).cpu().double()


def _bytes(images: Tensor) -> Tensor:
    if images.dtype != torch.uint8:
        raise UserError(
            f"Metrics look at images of type uint8, in [0, 255], and were given {str(images.dtype).split('.')[-1]}. "
            "Hand in hldm.images.to_uint8(images) of images in [0, 1]."
        )
    return images


def predictive_entropy(classifier: nn.Module, images: Tensor, batch_size: int = 500) -> Tensor:
    """How unsure the classifier is: H[p(y|x)] in nats, float64 (N,), each in [0, log K]."""
    _, logits = outputs(classifier, images, batch_size)
    log_p = logits.log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def label_accuracy(classifier: nn.Module, images: Tensor | Streamed, labels: Tensor, batch_size: int = 500) -> float:
    """Share of the images (N, C, H, W) that are classified as their labels (N,) say."""
    _, logits = outputs(classifier, images, batch_size)
    return (logits.argmax(dim=1) == labels).double().mean().item()
