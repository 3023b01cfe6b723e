"""The second stage: the denoiser, the process that it is trained on, and the sampler that runs it backwards."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt, MultipleOf
from pydantic import AfterValidator, Field

from hldm.config.autoencoder import Layout
from hldm.config.base import Count, Number, Positive, Refusal, Section, Switch, UserPath, Words, ZeroToOne
from hldm.config.geometry import Curvature, FixedCurvature
from hldm.config.published import WEIGHTS, sound
from hldm.files import content_digest

# ---------------------------------------------------------------------------------------------------------- denoisers


class Denoiser(Section, family=True):
    """The network of the second stage. It sees normal coordinates, so it is the same one on every manifold."""

    takes_section = True
    layout: ClassVar[Layout]


Width = Annotated[
    Count,
    MultipleOf(16),
    Refusal("{key} has {value}, which is not a multiple of 16 (the group size of its normalisation). Try {nearest}."),
]


class UNet(Denoiser, target="hldm.diffusion.UNetDenoiser"):
    """The U-Net of latent diffusion: ResNet blocks at every level, attention at some."""

    layout = Layout.MAP

    block_channels: tuple[Width, ...] = Field(
        default=(48, 64),
        min_length=1,
        description="channels of each level; each level but the last halves the side",
        examples=[[64, 96]],
    )
    layers_per_block: Count = Field(
        default=1, description="ResNet blocks per level on the way down, one more up", examples=[1]
    )
    head_channels: Count = Field(default=32, description="channels of one attention head", examples=[32])
    groups: Count = Field(default=16, description="groups that channels are normalised in", examples=[32])
    attention_resolutions: tuple[Count, ...] | None = Field(
        default=None,
        description="levels with attention, by how many times smaller than the latent they are; null: the last one",
        examples=[[8, 4, 2]],
    )
    middle: Literal["resnet", "attention"] = Field(
        default="resnet",
        description="lowest point, without text: one ResNet block, or attention between two of them",
    )
    class_embedding: Switch = Field(
        default=True, description="whether labels, or their absence, have an embedding; false with conditioning=none"
    )
    modulation: Literal["shift", "scale_shift"] = Field(
        default="shift", description="what time and label do to the channels of a ResNet block"
    )
    stem: Literal["linear", "gyroplane"] = Field(
        default="linear", description="first layer: a convolution, or distances of patches to gyroplanes"
    )
    attention: Literal["dot_product", "euclidean_distance", "hyperbolic_distance"] = Field(
        default="dot_product", description="what attention scores are made of"
    )
    curvature: Curvature = Field(
        default=FixedCurvature(value=1.0),
        description="curvature of stem=gyroplane and attention=hyperbolic_distance: a number, or learnable",
    )

    @property
    def attention_levels(self) -> tuple[bool, ...]:
        """Whether each level, from the finest to the coarsest, has attention."""
        levels = range(len(self.block_channels))
        if self.attention_resolutions is None:
            return tuple(level == levels[-1] for level in levels)
        return tuple(2**level in self.attention_resolutions for level in levels)

    @property
    def is_hyperbolic(self) -> bool:
        """Whether one of its layers reads the curvature."""
        return self.stem == "gyroplane" or self.attention == "hyperbolic_distance"

    def delta(self) -> dict[str, object]:
        """Flat layers go by the names of the Euclidean layers that they are at c = 0, bit for bit, and the curvature
        counts where a layer reads it."""
        changed = super().delta()
        if self.curvature.is_flat:
            if self.stem == "gyroplane":
                del changed["stem"]  # linear, the default
            if self.attention == "hyperbolic_distance":
                changed["attention"] = "euclidean_distance"
        if self.curvature.is_flat or not self.is_hyperbolic:
            changed.pop("curvature", None)
        return changed


class MLPDenoiser(Denoiser, target="hldm.diffusion.MLPDenoiser"):
    """Residual blocks on one latent point, steered by time and label through their normalisation."""

    layout = Layout.POINT

    width: Count = Field(default=256, description="width of the residual stream", examples=[256])
    blocks: Count = Field(default=4, description="residual blocks", examples=[4])


class CrossAttention(Denoiser, target="hldm.diffusion.CrossAttentionDenoiser"):
    """A transformer for one latent point, which attends to the tokens of a text, or to a label."""

    layout = Layout.POINT

    width: Count = Field(default=256, description="width of the token", examples=[256])
    blocks: Count = Field(default=2, description="transformer blocks", examples=[2])
    heads: Count = Field(default=4, description="attention heads, a divisor of the width", examples=[4])


class MapGlobal(UNet, target="hldm.diffusion.MapGlobalDenoiser"):
    """The U-Net on a map and the MLP on a point, each of which sees the other."""

    layout = Layout.BOTH

    width: Count = Field(default=128, description="width of the MLP", examples=[128])
    blocks: Count = Field(default=2, description="residual blocks of the MLP", examples=[2])


class PublishedUNet(Denoiser, target="hldm.diffusion.PublishedUNet"):
    """A published U-Net in diffusers' folder format, which training starts from: denoiser.folder says which."""

    layout = Layout.MAP

    folder: Annotated[UserPath | None, Words("a folder")] = Field(
        default=None, description="folder of the U-Net, or of a pipeline with unet/ in it", examples=["ldm/unet"]
    )
    architecture: Annotated[Mapping[str, Any], AfterValidator(sound)] | None = Field(
        default=None, description="content of its config.json, read from the folder"
    )

    def by_content(self) -> dict[str, str]:
        files = [Path(self.folder) / name for name in ("config.json", WEIGHTS)] if self.folder else []
        return {"folder": content_digest(files)} if files and all(file.is_file() for file in files) else {}


# ---------------------------------------------------------------------------------------------- processes and samplers


class Process(Section, family=True):
    """A path from noise to latents."""


class FlowMatching(Process, target="hldm.diffusion.FlowMatching"):
    """Riemannian flow matching (Chen & Lipman 2023): geodesic paths."""

    prediction: Literal["velocity", "residual"] = Field(
        default="velocity",
        description="what the network predicts: the velocity, or what is left of it beside a known share of the latent",
    )
    time: Literal["logit_normal", "uniform"] = Field(default="logit_normal", description="law of the training times")
    pairing: Literal["independent", "optimal_transport", "posterior"] = Field(
        default="independent",
        description="which noise belongs to a latent: any; within a batch (and a class, where there are labels) what "
        "makes paths short; or what the latent was drawn with from its posterior",
    )


TRAIN_STEPS = 1000
"""Steps of the noise schedule of `TangentDDPM`."""


Beta = Annotated[Number, Gt(0), Lt(1)]


class TangentDDPM(Process, target="hldm.diffusion.TangentDDPM"):
    """Ordinary diffusion in the normal coordinates of the latents; it depends on the origin."""

    schedule: Literal["scaled_linear", "squaredcos_cap_v2"] = Field(
        default="scaled_linear", description="noise schedule: that of latent diffusion, or the cosine one"
    )
    prediction: Literal["v", "epsilon", "x0"] = Field(default="v", description="what the network predicts")
    beta_start: Beta = Field(default=0.0015, description="first β of schedule=scaled_linear", examples=[0.00085])
    beta_end: Beta = Field(default=0.0195, description="last β of schedule=scaled_linear", examples=[0.012])
    min_snr_gamma: Positive | None = Field(
        default=None, description="γ of weighing the loss by min(SNR, γ), usually 5; null for none", examples=[5]
    )
    zero_terminal_snr: Switch = Field(
        default=False, description="the schedule ends in pure noise; not with prediction=epsilon"
    )

    def unread(self) -> set[str]:
        return set() if self.schedule == "scaled_linear" else {"beta_start", "beta_end"}


class Sampler(Section, family=True):
    """Draws latents with a trained denoiser."""

    @property
    def network_evaluations(self) -> int:
        """Evaluations of the network for one latent; 0 where they are not known before."""
        return 0


EVALUATIONS_PER_STEP = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4}
"""Solver of fixed steps → network evaluations of one step."""


class FlowSampler(Sampler, target="hldm.diffusion.FlowSampler"):
    """An ODE solver on the manifold."""

    method: Literal["midpoint", "euler", "heun", "rk4", "adaptive"] = Field(
        default="midpoint", description="solver; a step takes 2, 1, 2 or 4 network evaluations"
    )
    steps: Count = Field(
        default=4, description="steps of equal length, with which method=adaptive starts", examples=[15]
    )
    tolerance: Annotated[Number, Ge(1e-6)] = Field(
        default=0.01, description="error per step and coordinate, with method=adaptive", examples=[1e-2]
    )

    def unread(self) -> set[str]:
        return set() if self.method == "adaptive" else {"tolerance"}

    @property
    def network_evaluations(self) -> int:
        # how many evaluations an adaptive solver needs is not known before: about this many on a smooth field
        return 20 if self.method == "adaptive" else self.steps * EVALUATIONS_PER_STEP[self.method]


class DiffusionSampler(Sampler, target="hldm.diffusion.DiffusionSampler"):
    """The samplers of diffusers for the noise schedule."""

    method: Literal["ddim", "ddpm", "dpm_solver++", "unipc", "euler"] = Field(default="ddim", description="sampler")
    steps: Count = Field(default=50, le=TRAIN_STEPS, description="steps, each a network evaluation", examples=[50])
    eta: ZeroToOne = Field(default=0.0, description="noise of method=ddim: 0 none, 1 as much as ddpm", examples=[1])
    spacing: Literal["trailing", "leading", "leading_1", "linspace", "quadratic"] = Field(
        default="trailing",
        description="steps of the schedule that are visited: equal ones from its end, up to its start, up to one "
        "before it, which ends there as latent diffusion does, between both, or shorter ones near the data",
    )

    def unread(self) -> set[str]:
        return set() if self.method == "ddim" else {"eta"}

    @property
    def network_evaluations(self) -> int:
        return self.steps


class Diffusion(Section):
    """The process and its sampler; null and null for none."""

    process: Process | None = Field(default=FlowMatching(), description="path from noise to latents")
    sampler: Sampler | None = Field(default=FlowSampler(), description="what draws latents")
    latent_scale: Positive | None = Field(
        default=None,
        description="what latents are divided by, 1 in LDM-VQ; null: the root mean square that is measured",
        examples=[1.0],
    )
