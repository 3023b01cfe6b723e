"""The whole configuration of one run."""

from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import Field

from hldm.config import archives, gpus, pictures  # noqa: F401 - sections are known by being imported
from hldm.config.autoencoder import KL, Autoencoder
from hldm.config.base import (
    Auto,
    Count,
    FolderName,
    NotNegativeWhole,
    Readers,
    Section,
    Switch,
    UserPath,
    Whole,
    Word,
    Words,
)
from hldm.config.conditioning import ClassConditioning, Conditioning, Guided
from hldm.config.dataset import MNIST, Dataset
from hldm.config.diffusion import Denoiser, Diffusion, Process, TangentDDPM, UNet
from hldm.config.geometry import Curvature, FixedCurvature, Geometry
from hldm.config.metrics import BOUND_IMAGES, Metrics
from hldm.config.search import Search
from hldm.config.slurm import Slurm
from hldm.config.training import Training

MAX_SEED = 2**32 - 1
"""numpy's limit."""


class Hardware(Section):
    """Where a run works. Put only settings here that cannot change a result: a run's identity ignores them."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="where it works; auto takes a GPU where one works"
    )
    threads: Auto = Field(
        default="auto", description="threads of a run, auto at most 4; slots × threads ≤ cores", examples=[2]
    )
    slots: Auto = Field(
        default="auto",
        description="runs at a time: one per GPU, or as many as are quickest on the processor's cores",
        examples=[2],
    )
    runs_per_gpu: Count = Field(default=1, description="runs that share a GPU, where slots is auto", examples=[2])
    ranks: Count = Field(
        default=1, description="processes that share the batches of one run, each on a GPU of its own", examples=[2]
    )
    readers: Readers = Field(
        default="auto",
        description="processes that read and decode images ahead of a run, where they do not fit in memory; auto: as "
        "many as its threads, 0: none",
        examples=[4],
    )
    retry: NotNegativeWhole = Field(
        default=0, description="times that the same command tries a failed run again", examples=[2]
    )
    fail_fast: Switch = Field(default=False, description="whether the first failure stops the other runs")
    compile: Switch = Field(default=False, description="train under torch.compile: quicker after a minute or two")
    recompute: Switch = Field(
        default=False, description="compute the inner values of blocks again backwards: less memory, a third more work"
    )
    channels_last: Switch = Field(
        default=False,
        description="keep the channels of feature maps last in memory: measure before, slower where it was tried",
    )
    gpu_model: gpus.Model | None = Field(
        default=None,
        description="GPU that a plan counts memory, disk and hours for; null: plans say what runs took here",
        examples=["h100"],
    )
    slurm: Slurm | None = Field(default=None, description="jobs of SLURM; null: this machine")

    @property
    def processes(self) -> int:
        """How many share the batches of a run, each on a GPU of its own where there are any."""
        return self.slurm.processes if self.slurm else self.ranks


class Paths(Section):
    """Folders."""

    outputs: Annotated[UserPath, Words("a folder")] = Field(
        description="folder of all studies; runs lie in <outputs>/<study>/<run>", examples=["outputs"]
    )


class Tracking(Section, family=True):
    """Where runs are shown beside each other, besides metrics.jsonl."""


class NoTracker(Tracking, target="hldm.tracking.NoTracker"):
    """metrics.jsonl only, which every run writes anyway."""


class WandbTracker(Tracking, target="hldm.tracking.WandbTracker"):
    """Weights & Biases; without a key it writes an offline run that `wandb sync` uploads later."""

    project: Word = Field(default="hldm", description="project on the server", examples=["hldm"])
    entity: Word | None = Field(default=None, description="user or team; null: WANDB_ENTITY or the key's own")
    mode: Literal["auto", "online", "offline"] = Field(
        default="auto",
        description="way of sending; auto: as WANDB_MODE says, else online with a key and offline without",
    )


def _forgets(process: Process) -> bool:
    """Whether the end of the schedule leaves too little of a latent for what the network predicts to say more of it."""
    if not isinstance(process, TangentDDPM):
        return False
    return process.schedule == "squaredcos_cap_v2" and process.prediction == "epsilon"


class RunConfig(Section):
    """The whole configuration of one run."""

    seed: Annotated[Whole, Ge(0), Le(MAX_SEED)] = Field(
        default=0, description="seed of everything random", examples=[3]
    )
    study: FolderName = Field(default="main", description="folder of runs that are compared", examples=["main"])
    first_stage: Annotated[UserPath | None, Words("a run directory, a folder of diffusers, or null to train one")] = (
        Field(
            default=None,
            description="a trained autoencoder to take: a finished run, or a folder of diffusers; null: train one",
            examples=["outputs/main/<run>"],
        )
    )
    paths: Paths = Field(description="folders")
    geometry: Geometry = Field(default=Geometry(), description="space of the latents")
    curvature: Curvature = Field(default=FixedCurvature(), description="curvature of the balls: a number, or learnable")
    dataset: Dataset = Field(default=MNIST(), description="images, or vectors")
    autoencoder: Autoencoder = Field(default=KL(), description="first stage")
    denoiser: Denoiser = Field(default=UNet(), description="network of the second stage")
    diffusion: Diffusion = Field(default=Diffusion(), description="process and sampler of the second stage")
    conditioning: Conditioning = Field(default=ClassConditioning(), description="what the second stage is told")
    training: Training = Field(default=Training(), description="training of both stages")
    metrics: Metrics = Field(default=Metrics(), description="how a run is judged")
    tracking: Tracking = Field(default=WandbTracker(), description="where runs are shown")
    hardware: Hardware = Field(default=Hardware(), description="where a run works")
    search: Search | None = Field(default=None, description="search for settings in intervals; null: none")

    @property
    def has_flat_latents(self) -> bool:
        """Whether no factor of the latent space takes the curvature."""
        return not self.geometry.manifold.is_curved

    @property
    def has_diffusion(self) -> bool:
        """Whether there is a second stage."""
        return self.diffusion.process is not None

    @property
    def is_conditioned_on_balls(self) -> bool:
        """Whether labels or text are embedded as points of balls."""
        return self.has_diffusion and self.conditioning.is_hyperbolic

    @property
    def has_guidance(self) -> bool:
        """Whether there is a prediction without a condition to lead away from."""
        conditioning = self.conditioning
        return self.has_diffusion and isinstance(conditioning, Guided) and conditioning.dropout > 0

    @property
    def curves(self) -> dict[str, tuple[Any, ...]]:
        """Curve over validation images → the values that it tries; those that this run has a use for."""
        metrics = self.metrics
        wanted: dict[str, tuple[Any, ...]] = {
            "guidance": metrics.guidance_scales if self.has_guidance else (),
            "steps": metrics.sampler_steps if self.has_diffusion else (),
            "method": metrics.sampler_methods if self.has_diffusion else (),
        }
        is_possible = metrics.extractors and self.dataset.has_validation is not False
        return {name: values for name, values in wanted.items() if len(values) > 1 and is_possible}

    @property
    def bound_images(self) -> int:
        """Test images for the evidence bound with the diffusion model as prior."""
        images = self.metrics.likelihood_images
        if images != "auto":
            return images
        known = self.dataset.test_images
        return min(BOUND_IMAGES, known or BOUND_IMAGES) if self.has_bound else 0

    @property
    def has_bound(self) -> bool:
        """Whether the diffusion model gives a bound of the likelihood of images: it is a law of posteriors' draws, and
        its flow can be followed to the noise."""
        process = self.diffusion.process
        return self.autoencoder.is_variational and process is not None and not _forgets(process)

    @property
    def is_flat(self) -> bool:
        """Whether the run has no use for the curvature, in its latents or elsewhere."""
        return self.has_flat_latents and not self.is_conditioned_on_balls

    @property
    def curvature_words(self) -> str:
        """The curvature as tables show it: "flat" where nothing reads it, a number, or "learnable"."""
        return "flat" if self.is_flat else self.curvature.words

    @property
    def study_folder(self) -> Path:
        """<outputs>/<study>."""
        return Path(self.paths.outputs) / self.study
