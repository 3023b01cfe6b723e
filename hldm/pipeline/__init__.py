"""One run from its configuration to its results: both stages, sampling, metrics, pictures."""

from hldm.pipeline.build import build_model, load_model
from hldm.pipeline.evaluate import evaluate, sample_images
from hldm.pipeline.run import run

__all__ = ["build_model", "evaluate", "load_model", "run", "sample_images"]
