"""One loop for both stages, what it needs to resume bit for bit, and the random streams that make runs comparable."""

from hldm.training import ranks
from hldm.training.checkpoint import load_weights, save_weights
from hldm.training.latents import encode
from hldm.training.learned import settled, settling
from hldm.training.loop import Stage, train
from hldm.training.muon import Muon
from hldm.training.randomness import batch_indices, images_used, initialised, stream
from hldm.training.realism import LPIPS, DigitDistance, RealisticFirstStage
from hldm.training.stages import DiffusionStage, FirstStage

__all__ = [
    "LPIPS",
    "DiffusionStage",
    "DigitDistance",
    "FirstStage",
    "Muon",
    "RealisticFirstStage",
    "Stage",
    "batch_indices",
    "encode",
    "images_used",
    "initialised",
    "load_weights",
    "ranks",
    "save_weights",
    "settled",
    "settling",
    "stream",
    "train",
]
