"""Settings of text that must fit each other, and the folder of a pretrained text model."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hldm.errors import UserError
from hldm.study.config import get
from hldm.study.identity import is_conditioned_on_balls, is_learnable


def is_template(value: Any) -> bool:
    """Words in lower case, and {} once, where the class stands."""
    words = value.split(" ") if isinstance(value, str) else []
    return words.count("{}") == 1 and all(word == "{}" or re.fullmatch(r"[a-z0-9'-]+", word) for word in words)


def check_conditioning(config: Mapping[str, Any]) -> None:
    """Raise a UserError where labels or text cannot be trained or evaluated as they are set."""
    if get(config, "conditioning.hyperbolic") and get(config, "conditioning.dropout") is None:
        raise UserError(
            "conditioning.hyperbolic=true embeds labels or text on balls, and conditioning=none has neither. Type "
            "conditioning=class, or leave out what turned it on, such as +ablation=conditioning."
        )
    scale = get(config, "conditioning.guidance_scale")
    if get(config, "conditioning.dropout") == 0 and scale != 1:
        raise UserError(
            f"conditioning.guidance_scale={scale} subtracts what the denoiser predicts without a condition, which "
            "conditioning.dropout=0 never trains. Type conditioning.guidance_scale=1, or conditioning.dropout=0.1."
        )
    if is_conditioned_on_balls(config) and is_learnable(config):
        raise UserError(
            "curvature=learnable does not go with conditioning.hyperbolic=true: it is learned in the first stage, and "
            "conditioning comes in the second, where embeddings need a metric that holds still. Type a number, such as "
            "curvature=1.0, or conditioning.hyperbolic=false."
        )
    templates = get(config, "conditioning.templates")
    if templates is None:
        return
    held_out, pretrained = get(config, "conditioning.held_out"), get(config, "conditioning.pretrained")
    if held_out in templates:
        raise UserError(
            f"conditioning.held_out={held_out} is one of conditioning.templates, so accuracy would be measured on a "
            "caption of training. Take it out of one of the two, or give it another order of the words."
        )
    known = {word for template in templates for word in template.split(" ")}
    if pretrained is None and (new := [word for word in held_out.split(" ") if word not in known]):
        raise UserError(
            f"conditioning.held_out={held_out} has words that training never sees: {', '.join(new)}. Use those of "
            f"conditioning.templates: {', '.join(sorted(known - {'{}'}))}."
        )
    longest = max(len(template.split(" ")) for template in templates)
    if pretrained is None and len(held_out.split(" ")) > longest:
        raise UserError(
            f"conditioning.held_out={held_out} is longer than every template of training, which have {longest} words "
            "at most: its last words would stand where none ever stood. Say it in fewer."
        )
    channels, heads = get(config, "conditioning.channels"), get(config, "conditioning.heads")
    if channels % heads:
        raise UserError(
            f"conditioning.heads={heads} does not divide conditioning.channels={channels}. "
            f"Try conditioning.channels={heads * max(1, round(channels / heads))}."
        )
    if is_conditioned_on_balls(config) and not any(channels % n == 0 for n in range(2, 9)):
        raise UserError(
            f"conditioning.channels={channels} cannot be cut into balls of dimension 2 to 8, and a ball of dimension 1 "
            f"is a line, which is flat. Try conditioning.channels={8 * max(1, round(channels / 8))}."
        )
    if pretrained is not None:
        _check_pretrained(pretrained)


def _check_pretrained(name: str) -> None:
    folder = Path(name).expanduser()
    if folder.is_dir():
        missing = [] if (folder / "config.json").is_file() else ["config.json"]
        missing += [] if any(folder.glob("*.safetensors")) else ["*.safetensors"]
        missing += [] if any((folder / file).is_file() for file in ("tokenizer.json", "vocab.json")) else ["vocab.json"]
        if missing:
            raise UserError(
                f"conditioning.pretrained={name} lacks {', '.join(missing)}. It must be a CLIP text model and its "
                "tokenizer, as `save_pretrained` of transformers writes both; other formats of weights are not read."
            )
    elif not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        raise UserError(
            f"conditioning.pretrained={name} is not a folder that is there, nor a name on the hub such as "
            "openai/clip-vit-base-patch32. Give one of them, or conditioning.pretrained=null for none."
        )
