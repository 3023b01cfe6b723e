"""Whether the weights that a configuration asks for are there, and are these weights by the names of their tensors.

Imports no torch and runs nothing from a file: it is asked before any work starts.
"""

import json
import os
import pickletools
import zipfile
from pathlib import Path
from typing import Any

from hldm.errors import UserError
from hldm.paths import expanded

# one tensor of the first layer and one of the last that is used: other networks have other names
_INCEPTION = {"Conv2d_1a_3x3.conv.weight", "Mixed_7c.branch_pool.conv.weight", "fc.weight"}
_DINOV2 = (
    {"pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight", "norm.weight"},
    # as transformers writes them
    {"embeddings.position_embeddings", "encoder.layer.0.mlp.fc1.weight", "layernorm.weight"},
)
_VGG = {"features.0.weight", "features.28.weight"}
_DIGITS = {"body.0.weight", "body.12.weight", "head.weight", "head.bias"}
_UNLABELLED = {"body.0.weight", "body.9.weight", "head.1.weight"}

DIGITS_REMEDY = (
    "Use metrics.extractors=[digits] metrics.classifier.weights=null for the bundled one, or train one: "
    "python -m hldm.training.digit_classifier --out <file>"
)


UNLABELLED_REMEDY = (
    "Use metrics.extractors=[digits,unlabelled] for the bundled ones, or train some: "
    "python -m hldm.training.unlabelled_digits --out <file>"
)


def check_digit_weights(weights: str | None) -> Path | None:
    """The named file with the weights of the digit classifier, None for the bundled ones.

    Raises:
        UserError: it is missing, cut off, or not a file that `python -m hldm.training.digit_classifier` wrote.
    """
    return _checked(weights, "a digit classifier", _DIGITS, {"test_accuracy", "sha256"}, DIGITS_REMEDY)


def check_unlabelled_weights(weights: str | None) -> Path | None:
    """The named file with features that saw no labels, None for the bundled ones.

    Raises:
        UserError: it is missing, cut off, or not a file that `python -m hldm.training.unlabelled_digits` wrote.
    """
    return _checked(weights, "unlabelled features", _UNLABELLED, {"sha256"}, UNLABELLED_REMEDY)


def _checked(weights: str | None, what: str, names: set[str], texts: set[str], remedy: str) -> Path | None:
    """The named safetensors file, which has tensors of these names and these texts in its header; None for None."""
    if weights is None:
        return None
    path = expanded(weights)
    if not path.is_file():
        raise UserError(f"{path} with the weights of {what} is not a file. {remedy}")
    try:
        header = safetensors_header(path)
        missing = (names - header.keys()) | (texts - header.get("__metadata__", {}).keys())
        reason = f"{min(missing)} is missing" if missing else ""
    except (OSError, ValueError) as error:
        reason = str(error)
    if reason:
        raise UserError(f"{path} does not hold {what} ({reason}). {remedy}")
    return path


def check_inception_weights(weights: str | None) -> Path:
    """The file with Inception's weights.

    Raises:
        UserError: none is named (they are too large to bundle), or the file is missing or holds something else.
    """
    remedy = (
        "Download pt_inception-2015-12-05-6726825d.pth from the releases of torch-fidelity "
        "(github.com/toshas/torch-fidelity) and type metrics=inception metrics.weights=<that file>, "
        "or use metrics=pixels, which needs none, or for digits metrics=digits, whose weights are bundled."
    )
    if weights is None:
        raise UserError(f"metrics=inception needs its weights, which are not bundled (91 MB). {remedy}")
    path = expanded(weights)
    if not path.is_file():
        raise UserError(f"metrics.weights={weights} is not a file. {remedy}")
    if reason := _lacks(path, _INCEPTION):
        what = "torch-fidelity's Inception weights"
        raise UserError(f"metrics.weights={weights} does not hold {what} ({reason}). {remedy}")
    return path


def check_dinov2_weights(weights: str | None) -> Path:
    """The file with DINOv2's weights, as its authors or transformers name them.

    Raises:
        UserError: none is named (they are too large to bundle), or the file is missing or holds something else.
    """
    remedy = (
        "Download dinov2_vits14_pretrain.pth (88 MB) or dinov2_vitb14_pretrain.pth (346 MB) from "
        "dl.fbaipublicfiles.com/dinov2/dinov2_vits14/ or …/dinov2_vitb14/, or model.safetensors of "
        "huggingface.co/facebook/dinov2-small or …/dinov2-base, and type metrics=dinov2 metrics.weights=<that file>."
    )
    if weights is None:
        raise UserError(f"metrics=dinov2 needs its weights, which are not bundled. {remedy}")
    path = expanded(weights)
    if not path.is_file():
        raise UserError(f"metrics.weights={weights} is not a file. {remedy}")
    reasons = [_lacks_tensors(path, names) for names in _DINOV2]
    if all(reasons):
        raise UserError(f"metrics.weights={weights} does not hold DINOv2's weights ({reasons[0]}). {remedy}")
    return path


def check_vgg_weights(weights: str | None, *, metric: bool = False) -> Path:
    """The file with the weights of torchvision's VGG16: the named one, else where torchvision keeps what it downloads.

    Args:
        metric: whether they are asked for by `metrics.perceptual_weights` rather than by the first stage's loss.

    Raises:
        UserError: it is missing or holds something else.
    """
    cache = Path(os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch")
    path = expanded(weights or cache / "hub" / "checkpoints" / "vgg16-397923af.pth")
    key, asks, without = (
        ("metrics.perceptual_weights", "reconstruction_lpips", "metrics.perceptual_weights=null leaves it out.")
        if metric
        else (
            "training.first_stage.perceptual_backbone",
            "training.first_stage.perceptual_features=lpips",
            "perceptual_features=digits needs no download.",
        )
    )
    remedy = (
        "Download https://download.pytorch.org/models/vgg16-397923af.pth to there, or "
        f"type {key}=<that file>; {without}"
    )
    if not path.is_file():
        raise UserError(f"{asks} needs the weights of VGG16, not bundled (528 MB), and {path} is not a file. {remedy}")
    if reason := _lacks(path, _VGG):
        raise UserError(f"{key}={path} does not hold torchvision's VGG16 weights ({reason}). {remedy}")
    return path


def check_file_of_weights(path: Path) -> None:
    """Let a file pass that may be one of weights, by its suffix a safetensors file or one of torch.

    Raises:
        UserError: it is none, or is cut off.
    """
    if reason := _lacks_tensors(path, set()):
        raise UserError(
            f"{path} cannot be read as a file of weights ({reason}). Copy it anew; .safetensors, .ckpt, .pt, .pth and "
            ".bin are read."
        )


def _lacks_tensors(path: Path, names: set[str]) -> str | None:
    """`_lacks`, of a file of torch or a safetensors file."""
    try:
        header = safetensors_header(path)
    except (OSError, ValueError) as error:
        return str(error) if path.suffix == ".safetensors" else _lacks(path, names)
    missing = names - header.keys()
    return f"it has no {min(missing)}" if missing else None


def _lacks(path: Path, names: set[str]) -> str | None:
    """Why a file of torch cannot be a state dict with these tensors; None where it can."""
    try:
        missing = names - _texts(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        return f"it is not a file of torch: {str(error).splitlines()[0][:100]}"
    return f"it has no {min(missing)}" if missing else None


def _texts(path: Path) -> set[str]:
    """Every text in the pickles of a file that torch.save wrote, read as data: names of tensors are among them.

    Files of torch ≥ 1.6 are zip archives with one pickle. Older ones are four pickles (magic number, version, system,
    object) before the numbers.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return set().union(*(_pickled_texts(file) for _ in range(4)))
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"an archive with {len(pickles)} data.pkl")
        with archive.open(pickles[0]) as file:
            return _pickled_texts(file)


def _pickled_texts(file: Any) -> set[str]:
    return {argument for _, argument, _ in pickletools.genops(file) if isinstance(argument, str)}


def safetensors_header(path: Path) -> dict[str, Any]:
    """Name → what the header says of a tensor, and "__metadata__" → texts.

    Raises:
        ValueError: the file is no such file, or ends before its last tensor does.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            raise ValueError("it is not a safetensors file")
        header = json.loads(file.read(length))
    try:
        end = max([0, *(tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")])
        is_whole = size >= 8 + length + end
    except (AttributeError, KeyError, IndexError, TypeError):
        raise ValueError("it is not a safetensors file") from None
    if not is_whole:
        raise ValueError("it is cut off")
    return dict(header)
