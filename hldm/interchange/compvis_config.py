"""config.yaml beside a checkpoint of CompVis/latent-diffusion: what no tensor tells."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hldm.errors import UserError

HEAD_CHANNELS, IMAGE_SIDE = 32, 256
"""Of celebahq256, ffhq256 and lsun_beds256. lsun_churches256 has blocks of another kind, which are refused."""

OTHER_MAPPINGS = ("use_new_attention_order", "use_scale_shift_norm", "resblock_updown")
"""Settings of a U-Net there with which the same tensors mean something else than is read here."""


def sizes(file: Path) -> dict[str, Any]:
    """What a configuration of CompVis says of the model and no tensor does: width of attention heads, side of images,
    and what latents are multiplied by, where that is a number there. Nothing where there is no such file.

    Raises:
        UserError: it is no such file, or of a model that is another one than its tensors are read as here.
    """
    if not file.exists():
        return {}
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        unet = _inside(content, "model.params.unet_config.params", {})
        heads = int(_inside(unet, "num_head_channels", -1))
        side = _inside(content, "model.params.first_stage_config.params.ddconfig.resolution", None)
        own = _inside(content, "model.params.ddconfig.resolution", IMAGE_SIDE)  # of a first stage alone
        scale = _inside(content, "model.params.scale_factor", None)
        found = {
            "head_channels": heads if heads > 0 else HEAD_CHANNELS,
            "image_side": int(side or own),
            **({} if scale is None else {"scale": float(scale)}),
        }
    except (OSError, ValueError, TypeError, OverflowError, RecursionError, yaml.YAMLError) as error:
        raise UserError(
            f"{file} is no configuration of latent diffusion ({type(error).__name__}). Name the one that came with the "
            "checkpoint, config=<yaml>, or move it away where there is none: usual sizes are taken then."
        ) from error
    strange = [f"unet_config.params.{name}={unet[name]}" for name in OTHER_MAPPINGS if _inside(unet, name, False)]
    if heads <= 0 and (number := _inside(unet, "num_heads", -1)) != -1:
        strange.append(f"unet_config.params.num_heads={number} without num_head_channels")
    if (target := _inside(content, "model.params.parameterization", "eps")) != "eps":
        strange.append(f"parameterization={target}")
    if strange:
        raise UserError(
            f"{file} describes a model whose tensors mean something else than is read here: {', '.join(strange)}. "
            "diffusers has scripts that convert others; a folder that they write is read."
        )
    return found


def _inside(content: Any, path: str, default: Any) -> Any:
    for key in path.split("."):
        content = content.get(key) if isinstance(content, Mapping) else None
    return default if content is None else content
