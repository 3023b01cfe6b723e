"""One loop for both stages, what it needs to resume bit for bit, and the random streams that make runs comparable."""

from hldm.training.checkpoint import load_weights, save_weights
from hldm.training.ema import Ema
from hldm.training.loop import Stage, train
from hldm.training.randomness import initialised, stream
from hldm.training.stages import DiffusionStage, FirstStage, encode

__all__ = [
    "DiffusionStage",
    "Ema",
    "FirstStage",
    "Stage",
    "encode",
    "initialised", "load_weights", "save_weights", "stream", "train"
]
