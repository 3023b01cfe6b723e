"""Whole runs at the smallest size that still goes through everything."""

import dataclasses
import json
from contextlib import contextmanager
from functools import cache

import pytest

import hldm.data
from hldm.config.compose import compose
from hldm.config.dataset import MNIST
from hldm.data import InMemorySplit
from hldm.data.idx import mnist
from hldm.pipeline import run
from hldm.run.directory import RunDirectory
from hldm.run.identity import run_identity

TINY = [
    "experiment=smoke",
    "tracking=none",
    "hardware=cpu",
    "hardware.threads=1",
    "autoencoder.block_channels=[8,16]",
    "denoiser.block_channels=[16,16]",
    "denoiser.head_channels=16",
    "training.first_stage.steps=6",
    "training.first_stage.batch_size=16",
    "training.diffusion.steps=6",
    "training.diffusion.batch_size=16",
    "training.checkpoint_every=2",
    "training.log_every=1",
    "diffusion.sampler.steps=2",
    "metrics.samples=60",
    "metrics.sampling_batch_size=40",
    "metrics.guidance_scales=[]",
    "metrics.likelihood_images=0",
    "metrics.first_stage_images=100",
    "metrics.hierarchy.points=40",
    "metrics.hierarchy.draws=3",
    "metrics.hierarchy.test_points=20",
]

POINT = [
    *(setting for setting in TINY if not setting.startswith("denoiser.")),
    "denoiser.width=16",
    "denoiser.blocks=1",
]
"""`TINY` for latent=global, whose denoiser is no U-Net."""


def prepare(outputs, *overrides) -> RunDirectory:
    tiny = [part for part in TINY if "autoencoder=published" not in overrides or "autoencoder." not in part]
    config = compose([*tiny, f"paths.outputs={outputs}", *overrides])
    return RunDirectory.create(outputs / config.study / run_identity(config).name, config)


@cache
def digits(validation_images):
    """MNIST with every tenth of its test digits."""
    dataset = mnist(MNIST(validation_images=validation_images))
    test = InMemorySplit(dataset.test.images[::10], dataset.test.labels[::10])
    return dataclasses.replace(dataset, test=test)


@contextmanager
def few_test_digits():
    """Runs inside see 1,000 test digits: all are half of a tiny run. Those of tests/test_readme.py see all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hldm.data, "mnist", lambda settings: digits(settings.validation_images))
        yield


@pytest.fixture(scope="module", autouse=True)
def _few_test_digits():
    with few_test_digits():
        yield


@pytest.fixture(scope="session")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="session")
def finished(outputs):
    """One finished run per geometry."""
    runs = {name: prepare(outputs, f"geometry={name}") for name in ("euclidean", "poincare", "hybrid")}
    with few_test_digits():
        for directory in runs.values():
            run(directory.path)
    return runs


def weights(directory):
    return (directory.path / "checkpoints" / "model.safetensors").read_bytes()


def curve(directory):
    lines = (directory.path / "metrics.jsonl").read_text().splitlines()
    timeless = [{k: v for k, v in json.loads(line).items() if k != "steps_per_second"} for line in lines]
    return sorted(timeless, key=lambda record: (record["stage"], record["step"]))
