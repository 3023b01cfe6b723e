"""How both stages are trained."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from hldm.config.base import Count, NotNegative, NotNegativeWhole, Positive, Section, Share, Switch, UserPath, Words
from hldm.files import content_digest


class Stage(Section):
    """What both stages have."""

    steps: Count = Field(default=400, description="training steps", examples=[100])
    batch_size: Count = Field(default=128, description="images of one step", examples=[100])
    learning_rate: Positive = Field(default=2e-3, description="learning rate at its highest", examples=[1e-3])
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine", description="course of the learning rate: warm-up, then a cosine down to 2 %, or constant"
    )
    clip_norm: Positive | None = Field(
        default=1.0, description="largest norm of the gradient, which is cut to it; null for none", examples=[1.0]
    )


class Optimizer(Section, family=True):
    """An optimiser; the learning rate and the weights come with the stage."""

    betas: tuple[Share, Share] = Field(
        default=(0.9, 0.999), description="decay of both moments", examples=["[0.9,0.99]"]
    )


class FirstStage(Stage):
    """Training of the autoencoder."""

    perceptual_weight: NotNegative = Field(
        default=0.0, description="weight of a distance in features of a network; 0: none", examples=[1.0]
    )
    perceptual_features: Literal["digits", "lpips"] = Field(
        default="digits", description="network of these features: the bundled classifier, or VGG16, for natural images"
    )
    perceptual_backbone: Annotated[UserPath | None, Words("a file, or null")] = Field(
        default=None,
        description="torchvision's VGG16 for lpips; null: where torchvision keeps downloads",
        examples=["vgg16-397923af.pth"],
    )
    adversarial_weight: NotNegative = Field(
        default=0.0, description="weight of the loss of a patch discriminator; 0: none", examples=[0.5]
    )
    adversarial_start: NotNegativeWhole = Field(
        default=200, description="first step at which the discriminator is trained and followed", examples=[200]
    )
    discriminator: Literal["small", "patch70"] = Field(
        default="small", description="patches that it judges: 22 × 22 pixels, or 70 × 70 as in latent diffusion"
    )
    optimizer: Optimizer | None = Field(default=None, description="optimiser of this stage; null: training.optimizer")

    @property
    def uses_lpips(self) -> bool:
        """Whether the weights of VGG16 are needed."""
        return self.perceptual_weight > 0 and self.perceptual_features == "lpips"

    def unread(self) -> set[str]:
        unread = set() if self.perceptual_weight else {"perceptual_features"}
        if not self.uses_lpips:
            unread.add("perceptual_backbone")
        return unread if self.adversarial_weight else unread | {"adversarial_start", "discriminator"}

    def by_content(self) -> dict[str, str]:
        file = self.perceptual_backbone
        return {"perceptual_backbone": content_digest([Path(file)])} if file and Path(file).is_file() else {}


class DiffusionStage(Stage):
    """Training of denoiser and conditioning."""

    steps: NotNegativeWhole = Field(
        default=900, description="training steps; 0 leaves a published denoiser as it is", examples=[100]
    )
    ema_decay: Share = Field(
        default=0.995, description="decay of the average of the weights that is kept", examples=[0.995]
    )


class Fused(Optimizer):
    """An optimiser of torch."""

    fused: Switch = Field(default=True, description="one kernel updates all weights")


class AdamW(Fused, target="torch.optim.AdamW"):
    """Adam with decoupled weight decay."""

    betas: tuple[Share, Share] = Field(
        default=(0.9, 0.99), description="decay of both moments", examples=["[0.9,0.99]"]
    )
    weight_decay: NotNegative = Field(
        default=0.01,
        description="decay of the weights towards zero, times the learning rate in each step",
        examples=[0.01],
    )


class Muon(Optimizer, target="hldm.training.Muon"):
    """Momentum whose matrices are made orthogonal (Jordan et al. 2024); AdamW for weights that are no matrices."""

    betas: tuple[Share, Share] = Field(
        default=(0.9, 0.99), description="decay of both moments", examples=["[0.9,0.99]"]
    )
    momentum: Share = Field(default=0.95, description="decay of the matrices' moment", examples=[0.95])
    weight_decay: NotNegative = Field(
        default=0.01,
        description="decay of the weights towards zero, times the learning rate in each step",
        examples=[0.01],
    )


class Adam(Fused, target="torch.optim.Adam"):
    """Adam, as Mathieu et al. (2019) use it with amsgrad."""

    amsgrad: Switch = Field(
        default=False, description="the largest second moment so far is taken in place of the present one"
    )


def _off(value: object) -> object:
    """ "off" is false in YAML."""
    return "off" if value is False else value


class Training(Section):
    """Both stages and what they share."""

    first_stage: FirstStage = Field(default=FirstStage(), description="training of the autoencoder")
    diffusion: DiffusionStage | None = Field(
        default=DiffusionStage(), description="training of the denoiser; null: none"
    )
    optimizer: Optimizer = Field(default=AdamW(), description="optimiser of both stages")
    checkpoint_every: Count = Field(default=100, description="steps between resume states", examples=[20])
    checkpoint_minutes: Positive | None = Field(
        default=None, description="most minutes between resume states, where steps are slow; null: any", examples=[10]
    )
    log_every: Count = Field(default=10, description="steps between lines of metrics.jsonl", examples=[20])
    validate_every: Count | None = Field(
        default=None,
        description="steps between looks at validation images and samples, as W&B and <run>/progress have them; "
        "null: none",
        examples=[500],
    )
    keep: Literal["last", "best"] = Field(
        default="last", description="weights that are used: the last ones, or the best ones that a look found"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="number format of the networks' products while they are trained; geometry and weights stay float32",
    )
    microbatch: Count | None = Field(
        default=None,
        description="images that go through a network at once where a batch does not fit in memory; null: all of them",
        examples=[16],
    )
    latent_cache: Annotated[Literal["off", "ram", "disk", "auto"], BeforeValidator(_off)] = Field(
        default="ram",
        description="where the second stage has its latents from: encoded in each step, once for the run, or once for "
        "all runs that share them; auto: by what fits",
    )
    latent_precision: Literal["float32", "float16"] = Field(
        default="float32", description="number format of these latents; float16 halves what they take"
    )

    def unread(self) -> set[str]:
        # a resumed or watched run takes the same steps, and up to rounding a batch in pieces is the whole batch
        unread = {"checkpoint_every", "checkpoint_minutes", "log_every", "latent_cache", "microbatch"}
        if self.keep == "last":
            unread.add("validate_every")
        return unread if self.diffusion is not None else unread | {"latent_precision"}
