"""Weights of others: files of tensors, CompVis checkpoints, folders of diffusers.

Nothing in a file is run, and every tensor is used or named.
"""

from hldm.interchange.compvis import Converted, convert
from hldm.interchange.compvis_config import sizes
from hldm.interchange.folders import (
    build,
    has_first_stage,
    in_words,
    load_component,
    load_scheduler,
    resaved,
    save_pipeline,
)
from hldm.interchange.tensors import check_finite, read_tensors

__all__ = [
    "Converted",
    "build",
    "check_finite",
    "convert",
    "has_first_stage",
    "in_words",
    "load_component",
    "load_scheduler",
    "read_tensors",
    "resaved",
    "save_pipeline",
    "sizes",
]
