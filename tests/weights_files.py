"""Files with the names of tensors that known networks have, and next to nothing in them."""

from pathlib import Path

import torch

INCEPTION = ("Conv2d_1a_3x3.conv.weight", "Mixed_7c.branch_pool.conv.weight", "fc.weight", "fc.bias")
DINOV2 = (
    "cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight",
    "norm.weight",
)  # fmt: skip
VGG = ("features.0.weight", "features.0.bias", "features.28.weight", "classifier.6.weight")


def torch_file(path: Path, names: tuple[str, ...], *, legacy: bool = False) -> Path:
    """A state dict with one number for each name, as torch writes it today or (`legacy`) before version 1.6."""
    state = {name: torch.zeros(1) for name in names}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    return path


def inception_like(folder: Path) -> Path:
    """A file that passes for Inception's weights until it is loaded."""
    return torch_file(folder / "inception.pth", INCEPTION)
