"""Whether the weights that a configuration asks for are there. Imports no torch: it runs before any work starts."""

import os
from pathlib import Path

from hldm.errors import UserError


def check_inception_weights(weights: str | None) -> Path:
    """The file with Inception's weights.

    Raises:
        UserError: none is named (they are too large to bundle), or the file is missing.
    """
    remedy = (
        "Download pt_inception-2015-12-05-6726825d.pth from the releases of torch-fidelity "
        "(github.com/toshas/torch-fidelity) and type metrics=inception metrics.weights=<that file>, "
        "or use metrics=digits, whose weights are bundled."
    )
    if weights is None:
        raise UserError(f"metrics=inception needs its weights, which are not bundled (91 MB). {remedy}")
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(f"metrics.weights={weights} is not a file. {remedy}")
    return path


def check_vgg_weights(weights: str | None) -> Path:
    """The file with the weights of torchvision's VGG16: the named one, else where torchvision keeps what it downloads.

    Raises:
        UserError: it is missing.
    """
    cache = Path(os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch")
    path = Path(weights or cache / "hub" / "checkpoints" / "vgg16-397923af.pth").expanduser()
    if not path.is_file():
        raise UserError(
            "training.first_stage.perceptual_features=lpips needs the weights of VGG16, not bundled (528 MB), and "
            f"{path} is not a file. Download https://download.pytorch.org/models/vgg16-397923af.pth to there, or "
            "type training.first_stage.perceptual_backbone=<that file>; perceptual_features=digits needs no download."
        )
    return path
