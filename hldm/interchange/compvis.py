"""Checkpoints of CompVis/latent-diffusion → the models of diffusers: names, shapes and settings of unconditional LDMs.

Legend: `model.diffusion_model.*` is the U-Net (`openaimodel.UNetModel`), `model_ema.*` its average, whose names have
lost their dots, `first_stage_model.*` the autoencoder (`VQModelInterface` or `AutoencoderKL`), which a checkpoint of a
first stage has without the prefix. Names of diffusers are those of UNet2DModel, VQModel and AutoencoderKL.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DModel, VQModel
from torch import Tensor, nn

from hldm.errors import UserError
from hldm.interchange.tensors import check_finite

RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}

OUTSIDE_LEVELS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}

NO_WEIGHTS = re.compile(
    r"(model_ema\.(decay|num_updates)|scale_factor|logvar|(ddim_)?(betas|alphas\w*|sqrt_\w+|log_\w+|posterior_\w+|sigmas"
    r"|lvlb_weights))$"
)
"""What a checkpoint holds beside weights: the noise schedule and what counts steps."""

TRAINING_ONLY = re.compile(r"(first_stage_model\.)?loss\.")
"""The discriminator and the perceptual distance of a first stage."""


class Converted(NamedTuple):
    """What a checkpoint holds, as models of diffusers with its weights."""

    unet: UNet2DModel | None
    first_stage: VQModel | AutoencoderKL | None
    scheduler: DDIMScheduler | None
    report: list[str]
    """A sentence for each group of tensors: what became of it."""


def convert(
    tensors: Mapping[str, Tensor],
    *,
    head_channels: int = 32,
    image_side: int = 256,
    scale: float | None = None,
    averaged: bool = True,
) -> Converted:
    """The models of a checkpoint. Every tensor is used, or a group that is named.

    Args:
        tensors: of the whole checkpoint, or of a first stage alone.
        head_channels: `num_head_channels` of the U-Net, which no tensor tells.
        image_side: height and width of the images that it was trained on, which no tensor tells either.
        scale: `scale_factor`, what latents are multiplied by, where no tensor tells; 1 with a U-Net, as there, and of
            a first stage alone its class's default.
        averaged: whether the U-Net's weights are the running average, where there is one.

    Raises:
        UserError: there are tensors that no part of these models has, or too few.
    """
    if told := [name for name in tensors if name.startswith("cond_stage_model.") or ".transformer_blocks." in name]:
        raise UserError(
            f"{len(told)} tensors belong to no part of an unconditional latent diffusion model: {some(told)}. {OTHERS}"
        )
    try:
        return _converted(dict(tensors), head_channels, image_side, scale, averaged)
    except UserError:
        raise
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        reason = f"it has no {error.args[0]}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise UserError(
            f"The tensors are not those of latent diffusion's models ({reason}). The checkpoint is damaged, or of "
            f"another architecture. {OTHERS}"
        ) from error


OTHERS = "Models with a condition, and others, are read as folders of diffusers, whose scripts convert them."


def _converted(
    left: dict[str, Tensor], head_channels: int, image_side: int, scale: float | None, averaged: bool
) -> Converted:
    """`convert`, which takes from the tensors what it uses."""
    report: list[str] = []
    raw = _taken(left, "model.diffusion_model.")
    average = _taken(left, "model_ema.diffusion_model")
    unet = first_stage = scheduler = None
    if raw:
        if average and averaged:
            if unknown := average.keys() - {name.replace(".", "") for name in raw}:
                raise UserError(f"The average has tensors that the U-Net lacks: {some(unknown)}. Copy the file anew.")
            raw = {name: average.get(name.replace(".", ""), x) for name, x in raw.items()}
        halvings = _levels(left) - 1
        if image_side < 2**halvings:
            raise ValueError(f"images of side {image_side} cannot be halved {halvings} times")
        unet = _unet(raw, head_channels, image_side // 2**halvings)
        kind = "the running average" if average and averaged else "the weights of the last step"
        report.append(f"U-Net: {len(raw)} tensors, {kind}; attention heads of {head_channels} channels.")
        if average:
            other = "last step" if averaged else "average"
            report.append(f"Left out: {len(average)} tensors of the U-Net's {other}.")
    prefix = "first_stage_model." if any(name.startswith("first_stage_model.") for name in left) else ""
    training = {name: left.pop(name) for name in list(left) if TRAINING_ONLY.match(name)}
    parts = ("encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv.")
    of_first = {name: x for part in parts for name, x in _taken(left, prefix + part, keep=len(prefix)).items()}
    if (measured := left.get("scale_factor")) is not None:
        scale = float(measured)
    elif scale is None and unet is not None:
        scale = 1.0
    if not 0 < (1.0 if scale is None else scale) < math.inf:
        raise ValueError(f"scale_factor={scale} is no number > 0")
    if of_first:
        first_stage = _first_stage(of_first, scale, image_side)
        report.append(f"First stage, {type(first_stage).__name__}: {len(of_first)} tensors.")
    if training:
        report.append(
            f"Left out: {len(training)} tensors of the first stage's loss (discriminator, perceptual distance)."
        )
    if (betas := left.get("betas")) is not None:
        scheduler = _scheduler(betas)
        report.append(f"Noise schedule: β from {betas[0]:.4g} to {betas[-1]:.4g} in {len(betas)} steps.")
    schedule = [name for name in left if NO_WEIGHTS.match(name)]
    for name in schedule:
        del left[name]
    if schedule:
        report.append(f"Left out: {len(schedule)} tensors of the noise schedule and of counters.")
    if left or (unet is None and first_stage is None):
        raise UserError(
            f"{len(left)} tensors belong to no part of an unconditional latent diffusion model: {some(left)}. {OTHERS}"
            if left
            else "There is neither a U-Net nor a first stage of latent diffusion among the tensors."
        )
    return Converted(unet, first_stage, scheduler, report)


# ------------------------------------------------------------------------------------------------------------ the U-Net


def _unet(raw: Mapping[str, Tensor], head_channels: int, side: int) -> UNet2DModel:
    names = dict(_unet_names(raw))
    state = {}
    for name, x in raw.items():
        stem, _, kind = name.rpartition(".")
        if stem.endswith(".qkv") and stem[:-4] in names:
            # heads first, then q, k and v: QKVAttentionLegacy
            width = len(x) // 3
            heads = max(1, width // head_channels)
            of_heads = x.reshape(heads, 3, width // heads, -1).unbind(1)
            for part, own in zip(("to_q", "to_k", "to_v"), of_heads, strict=True):
                state[f"{names[stem[:-4]]}.{part}.{kind}"] = (
                    own.reshape(width, -1) if kind == "weight" else own.flatten()
                )
        elif stem in names:
            # the projection is a convolution of size 1 there, and a linear map here
            state[f"{names[stem]}.{kind}"] = x.squeeze(-1) if ".attentions." in names[stem] and x.ndim == 3 else x
        else:
            state[f"unknown {name}"] = x
    blocks = sorted({int(n.split(".")[1]) for n in state if n.startswith("down_blocks.")})
    widths = [state[f"down_blocks.{k}.resnets.0.conv1.weight"].shape[0] for k in blocks]
    layers = len({n.split(".")[3] for n in state if n.startswith("down_blocks.0.resnets.")})
    attends = [f"down_blocks.{k}.attentions.0.to_q.weight" in state for k in blocks]
    model = _on_meta(
        UNet2DModel,
        sample_size=side,
        in_channels=raw["input_blocks.0.0.weight"].shape[1],
        out_channels=raw["out.2.weight"].shape[0],
        block_out_channels=tuple(widths),
        layers_per_block=layers,
        down_block_types=tuple("AttnDownBlock2D" if attends_here else "DownBlock2D" for attends_here in attends),
        up_block_types=tuple("AttnUpBlock2D" if attends_here else "UpBlock2D" for attends_here in attends[::-1]),
        attention_head_dim=head_channels,
        norm_num_groups=32 if widths[0] % 32 == 0 else 8,
    )
    return _filled(model, state)


def _unet_names(raw: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """(name of a layer there, name here), for all layers of these tensors."""
    yield from OUTSIDE_LEVELS.items()
    parts: dict[tuple[str, int], dict[int, set[str]]] = {}
    for name in raw:
        if found := re.match(r"(input|output)_blocks\.(\d+)\.(\d+)\.(.+)\.\w+$", name):
            parts.setdefault((found[1], int(found[2])), {}).setdefault(int(found[3]), set()).add(found[4])
        elif found := re.match(r"middle_block\.(\d)\.(.+)\.\w+$", name):
            yield from _layer(f"middle_block.{found[1]}", f"mid_block.{MIDDLE[found[1]]}", {found[2]})
    for side, here in (("input", "down_blocks"), ("output", "up_blocks")):
        level = position = 0
        for _, index in sorted(key for key in parts if key[0] == side):
            if (side, index) == ("input", 0):
                continue
            is_end = False
            for part, layers in sorted(parts[side, index].items()):
                there = f"{side}_blocks.{index}.{part}"
                if layers & {"op", "conv"}:
                    is_end = True
                    sampler = "downsamplers" if side == "input" else "upsamplers"
                    yield f"{there}.{'op' if side == 'input' else 'conv'}", f"{here}.{level}.{sampler}.0.conv"
                else:
                    kind = "resnets" if "in_layers.0" in layers else "attentions"
                    yield from _layer(there, f"{here}.{level}.{kind}.{position}", layers)
            position += 1
            if is_end:
                level, position = level + 1, 0


def _layer(there: str, here: str, layers: set[str]) -> Iterator[tuple[str, str]]:
    for layer in layers:
        if layer == "qkv":
            yield there, here
        elif ours := (RESNET if ".resnets." in here else ATTENTION).get(layer):
            yield f"{there}.{layer}", f"{here}.{ours}"


# ------------------------------------------------------------------------------------------------------ the first stage


def _levels(tensors: Iterable[str]) -> int:
    """Levels of the first stage, each of which but the last halves a map; 3 where there is none, as in VQ-f4."""
    found = [re.search(r"(?:^|\.)encoder\.down\.(\d+)\.", name) for name in tensors]
    return 1 + max((int(level[1]) for level in found if level), default=2)


def _first_stage(raw: Mapping[str, Tensor], scale: float | None, side: int) -> VQModel | AutoencoderKL:
    has_codes = "quantize.embedding.weight" in raw
    levels = _levels(raw)
    widths = [raw[f"encoder.down.{k}.block.0.conv1.weight"].shape[0] for k in range(levels)]
    state = {
        _first_stage_name(name, levels): x.squeeze(-1).squeeze(-1) if _is_map(name) else x for name, x in raw.items()
    }
    attends = [f"encoder.down.{k}.attn.0.q.weight" in raw for k in range(levels)]
    shapes: dict[str, Any] = {
        "sample_size": side,
        "in_channels": raw["encoder.conv_in.weight"].shape[1],
        "out_channels": raw["decoder.conv_out.weight"].shape[0],
        "down_block_types": tuple("AttnDownEncoderBlock2D" if here else "DownEncoderBlock2D" for here in attends),
        "up_block_types": tuple("AttnUpDecoderBlock2D" if here else "UpDecoderBlock2D" for here in attends[::-1]),
        "block_out_channels": tuple(widths),
        "layers_per_block": len({n.split(".")[4] for n in raw if n.startswith("encoder.down.0.block.")}),
        "latent_channels": raw["post_quant_conv.weight"].shape[0],
        "norm_num_groups": 32 if widths[0] % 32 == 0 else 8,
    }
    if has_codes:
        codes, channels = raw["quantize.embedding.weight"].shape
        extra = {"num_vq_embeddings": codes, "vq_embed_dim": channels, "scaling_factor": scale or 1.0}
        return _filled(_on_meta(VQModel, **shapes, **extra), state)
    return _filled(_on_meta(AutoencoderKL, **shapes, **({} if scale is None else {"scaling_factor": scale})), state)


def _is_map(name: str) -> bool:
    """Whether it is a convolution of size 1 that diffusers has as a linear map."""
    return bool(re.search(r"attn(_1|\.\d+)\.(q|k|v|proj_out)\.weight$", name))


def _first_stage_name(name: str, levels: int) -> str:
    here = re.sub(r"^(encoder|decoder)\.mid\.block_(\d)", lambda m: f"{m[1]}.mid_block.resnets.{int(m[2]) - 1}", name)
    here = re.sub(r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1.", here)
    here = re.sub(r"^decoder\.up\.(\d+)\.", lambda m: f"decoder.up_blocks.{levels - 1 - int(m[1])}.", here)
    here = here.replace(".block.", ".resnets.").replace(".nin_shortcut.", ".conv_shortcut.")
    here = here.replace(".downsample.", ".downsamplers.0.").replace(".upsample.", ".upsamplers.0.")
    here = here.replace(".norm_out.", ".conv_norm_out.")
    if found := re.match(r"(.*?)\.(mid\.attn_1|attn\.\d+)\.(\w+)\.(\w+)$", here):
        place = "mid_block.attentions.0" if found[2] == "mid.attn_1" else found[2].replace("attn", "attentions")
        return f"{found[1]}.{place}.{ATTENTION[found[3]]}.{found[4]}"
    return here


# --------------------------------------------------------------------------------------------------------------- common


def _scheduler(betas: Tensor) -> DDIMScheduler:
    """Latent diffusion's sampler on this noise schedule.

    Raises:
        UserError: √β is not linear.
    """
    ends = (float(betas[0]), float(betas[-1]))
    scheduler = DDIMScheduler(
        num_train_timesteps=len(betas),
        beta_start=ends[0],
        beta_end=ends[1],
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
    if not torch.allclose(scheduler.betas, betas.float(), rtol=1e-3):
        raise UserError("The noise schedule of the checkpoint is not latent diffusion's, whose √β is linear.")
    return scheduler


def _taken(left: dict[str, Tensor], prefix: str, keep: int | None = None) -> dict[str, Tensor]:
    """Remove the tensors whose names start so, and return them without the prefix, or without its first characters."""
    cut = len(prefix) if keep is None else keep
    return {name[cut:]: left.pop(name) for name in list(left) if name.startswith(prefix)}


def _on_meta(cls: Any, **settings: Any) -> Any:
    with torch.device("meta"):
        return cls(**settings)


def _filled(model: nn.Module, state: Mapping[str, Tensor]) -> Any:
    """The model with exactly these tensors.

    Raises:
        UserError: there are others, or some are missing, or of other shapes.
    """
    expected = model.state_dict()
    problems = {
        "are unknown": state.keys() - expected.keys(),
        "are missing": expected.keys() - state.keys(),
        "have another shape": {
            name for name in state if name in expected and state[name].shape != expected[name].shape
        },
    }
    for what, names in problems.items():
        if names:
            raise UserError(
                f"{len(names)} tensors of a {type(model).__name__} {what}: {some(names)}. The checkpoint is damaged, "
                "or of another architecture than latent diffusion's."
            )
    check_finite(state, f"the {type(model).__name__} of the checkpoint")
    model.load_state_dict({name: x.float().contiguous() for name, x in state.items()}, strict=True, assign=True)
    return model.eval()


def some(names: Any) -> str:
    first, *rest = sorted(names)[:4]
    return ", ".join([first, *rest[:2]]) + (" and others" if len(rest) > 2 else "")
