"""What the second stage is told beside the noisy latent: nothing, a label, or a caption."""

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from hldm.config.base import Count, Guidance, Section, Share, Switch, Word, Words, absolute
from hldm.files import content_digest


class Conditioning(Section, family=True):
    """What the denoiser is told."""

    takes_section = True
    takes_labels: ClassVar[bool] = False
    """Whether labels of classes decide what is drawn, by themselves or as captions."""
    reads_text: ClassVar[bool] = False

    @property
    def is_hyperbolic(self) -> bool:
        """Whether labels or text are embedded as points of balls of the run's curvature."""
        return False


class Unconditional(Conditioning, target="hldm.conditioning.Unconditional"):
    """Unconditional: no labels, no text."""


class Guided(Conditioning):
    """What labels and text share: they are dropped at random in training, so that guidance can subtract."""

    takes_labels = True

    dropout: Share = Field(
        default=0.1, description="share of the training conditions that are left out", examples=[0.1]
    )
    guidance_scale: Guidance = Field(
        default=2.0, description="scale of classifier-free guidance; 1 for none", examples=[1.0]
    )
    hyperbolic: Switch = Field(
        default=False,
        description="whether embeddings are points of balls of the run's curvature, at c = 0 the flat ones",
    )

    @property
    def is_hyperbolic(self) -> bool:
        return self.hyperbolic


class ClassConditioning(Guided, target="hldm.conditioning.ClassConditioning"):
    """Class labels."""


def _template(value: Any) -> Any:
    words = value.split(" ") if isinstance(value, str) else []
    if words.count("{}") != 1 or not all(word == "{}" or re.fullmatch(r"[a-z0-9'-]+", word) for word in words):
        raise ValueError
    return value


Template = Annotated[str, BeforeValidator(_template)]
"""A caption: words in lower case, and {} once, where the class stands."""


def _name_or_folder(value: str) -> str:
    if "~" not in value[:1] and not Path(value).is_dir():
        return value
    return absolute(value)


def text_folders(name: str) -> tuple[Path, Path]:
    """Where the tokenizer and the text model of `pretrained` lie: in one folder, or each in its own of a pipeline's."""
    folder = Path(name)
    is_pipeline = (folder / "text_encoder").is_dir()
    return (folder / "tokenizer", folder / "text_encoder") if is_pipeline else (folder, folder)


class TextConditioning(Guided, target="hldm.conditioning.TextConditioning"):
    """Captions made of labels, read by a text transformer, attended to by the denoiser."""

    reads_text = True

    templates: Annotated[
        tuple[Template, ...], Words("a list of captions in lower case, each with {} once, where the class stands")
    ] = Field(
        default=(
            "a handwritten {}",
            "the digit {}",
            "a picture of a {}",
            "a drawing of the digit {}",
            "a picture of a handwritten digit {}",
        ),
        min_length=1,
        description="captions of training; {} is the class",
        examples=['\'["a handwritten {}","a drawing of the digit {}"]\''],
    )
    held_out: Annotated[Template, Words("a caption in lower case with {} once, where the class stands")] = Field(
        default="a drawing of a handwritten {}",
        description="caption of evaluation, never seen in training, unlike its words",
        examples=["'\"a drawing of a {}\"'"],
    )
    channels: Count = Field(
        default=64, description="channels of the text transformer and of what is attended to", examples=[64]
    )
    layers: Count = Field(default=2, description="layers of the text transformer", examples=[2])
    heads: Count = Field(
        default=2, description="attention heads of the text transformer, a divisor of channels", examples=[2]
    )
    pretrained: Annotated[
        Annotated[Word, BeforeValidator(lambda v: _name_or_folder(v) if isinstance(v, str) and v else v)] | None,
        Words("a folder, a name on the hub, or null"),
    ] = Field(
        default=None,
        description="a trained CLIP text model to take instead, frozen; a folder of it, or of a pipeline of diffusers",
        examples=["openai/clip-vit-base-patch32"],
    )

    def unread(self) -> set[str]:
        return set() if self.pretrained is None else {"layers", "heads"}

    def by_content(self) -> dict[str, str]:
        if self.pretrained is None or not (folder := Path(self.pretrained)).is_dir():
            return {}
        files = {file for part in text_folders(str(folder)) if part.is_dir() for file in part.iterdir()}
        return {"pretrained": content_digest(sorted(file for file in files if file.is_file()))}
