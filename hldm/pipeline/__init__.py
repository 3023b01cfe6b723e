"""One run from its configuration to its results: both stages, sampling, metrics, pictures."""

from hldm.pipeline.build import build_model, load_model
from hldm.pipeline.evaluate import evaluate_run
from hldm.pipeline.likelihood import MarginalLikelihood
from hldm.pipeline.samples import sample_images
from hldm.pipeline.train import run, run_first_stage

__all__ = ["MarginalLikelihood", "build_model", "evaluate_run", "load_model", "run", "run_first_stage", "sample_images"]
