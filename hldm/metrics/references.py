"""Real images as an extractor sees them: computed once for all runs that are compared on them.

Legend: M real images, D features.
"""

import hashlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hldm.files import write_atomically
from hldm.metrics.neighbours import neighbour_radii


class Streamed(Protocol):
    """Real images that are read a batch at a time, as `hldm.data.Split` gives them."""

    @property
    def fingerprint(self) -> str:
        """A hash of their content."""

    def __len__(self) -> int: ...

    def batches(self, chosen: Iterable[Tensor]) -> Iterator[Tensor]:
        """uint8 (B, C, H, W) for each of these indices, int64 (B,)."""


class Reference:
    """Features of real images, and what metrics need to know of them alone.

    Attributes:
        features: float64 (M, D) on the CPU.
    """

    def __init__(self, features: Tensor) -> None:
        self.features = features

    @cached_property
    def radii(self) -> Tensor:
        """`neighbour_radii`, float64 (M, 2)."""
        return neighbour_radii(self.features)

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """Mean and covariance, as torch-fidelity keeps them."""
        from torch_fidelity.metric_fid import fid_features_to_statistics  # takes seconds to import

        statistics: dict[str, Any] = fid_features_to_statistics(self.features)
        return statistics


def tensor_digest(tensor: Tensor) -> str:
    """sha256 over type, shape and content, in hexadecimal."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_features(path: Path) -> Tensor | None:
    """What `save_features` wrote, float64 (M, D); None where there is no such file, or it is not what was written."""
    try:
        with safe_open(path, framework="pt") as file:
            stated, features = (file.metadata() or {}).get("sha256"), file.get_tensor("features")
    except (SafetensorError, OSError):
        return None
    # a damaged file is one that is not there: it is written anew
    return features.double() if stated == tensor_digest(features) else None


def save_features(path: Path, features: Tensor) -> None:
    """Write float64 (M, D), whole or not at all. What float32 holds exactly, as most networks give it, takes half."""
    short = features.float()
    kept = (short if torch.equal(short.double(), features) else features).contiguous()
    metadata = {"sha256": tensor_digest(kept)}
    write_atomically(path, lambda file: save_file({"features": kept}, file, metadata=metadata))
