"""A trained run → a folder for others: a pipeline of diffusers where it is one, else weights and configuration."""

import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import DDIMScheduler, LDMPipeline, UNet2DModel, VQModel
from torch import Tensor, nn

from hldm import __version__
from hldm.autoencoder import Autoencoder, PublishedAutoencoder, VQAutoencoder
from hldm.autoencoder.convolutional import PixelFolding
from hldm.conditioning import Unconditional
from hldm.config.autoencoder import VQ, Published
from hldm.config.conditioning import TextConditioning
from hldm.config.diffusion import TRAIN_STEPS, UNet
from hldm.config.diffusion import DiffusionSampler as SamplerSection
from hldm.config.schema import Hardware, NoTracker, RunConfig
from hldm.data import Dataset
from hldm.diffusion import PublishedUNet, TangentDDPM, UNetDenoiser
from hldm.diffusion.tangent_ddpm import SCHEDULERS, timesteps
from hldm.model import LatentDiffusion, LatentModel
from hldm.pipeline.exported import FACTS, SAMPLER, WEIGHTS
from hldm.run.directory import MODEL, RunDirectory

SPACINGS = {
    "trailing": ("trailing", 0),
    "leading": ("leading", 0),
    "leading_1": ("leading", 1),
    "linspace": ("linspace", 0),
}
"""Ours → timestep_spacing and steps_offset of diffusers."""


def export(run: RunDirectory, model: LatentModel, dataset: Dataset, out: Path) -> list[str]:
    """Write a folder of a trained model, and a model card.

    Args:
        run: where it lies.
        model: with its weights, on the CPU.
        dataset: that it was trained on.
        out: a folder that is not there yet, or empty.

    Returns:
        Sentences: what was written, and why it is no pipeline of diffusers where it is none.
    """
    config = run.config
    reasons = list(obstacles(model, config))
    note = ""
    out.mkdir(parents=True, exist_ok=True)
    if not reasons:
        assert isinstance(model, LatentDiffusion)
        pipeline(model, config).save_pretrained(out, safe_serialization=True)
        section = config.diffusion.sampler
        assert section is not None
        own = {name: value for name, value, _ in section.fields()}
        (out / SAMPLER).write_text(json.dumps(own, indent=1) + "\n", encoding="utf-8")
        note = other_steps(model, config)
        said = [
            "A pipeline of diffusers: LDMPipeline.from_pretrained(folder) samples from it.",
            *([note] if note else []),
        ]
    else:
        shutil.copyfile(run.path / MODEL, out / WEIGHTS)
        # as text and not as a configuration, whose paths are absolute
        (out / "config.yaml").write_text(
            yaml.safe_dump(for_others(config), sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
        facts = {
            "name": dataset.name,
            "image_shape": dataset.image_shape,
            "class_names": dataset.class_names,
            "class_words": dataset.class_words,
        }
        (out / FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        said = ["A folder of ours, HLDM.from_pretrained(folder). It is no pipeline of diffusers:", *reasons]
        if (text := text_model(config)) is not None:
            said.append(
                f"It reads text with {text}, which is not in the folder. Whoever loads it needs that model: as "
                f"{Path(text).name}/ in this folder, or in their cache of the hub."
            )
    (out / "README.md").write_text(card(run, dataset, is_pipeline=not reasons, note=note), encoding="utf-8")
    return said


# ------------------------------------------------------------------------------------------------------------ diffusers


def obstacles(model: LatentModel, config: RunConfig) -> Iterator[str]:
    """Why a model is not one of diffusers' LDMPipeline, a sentence each; none where it is one."""
    if not isinstance(model, LatentDiffusion):
        yield "diffusion=none has no denoiser."
        return
    if not model.autoencoder.manifold.is_flat:
        yield f"geometry={config.geometry.name} has latents on a manifold."
    if not isinstance(model.process, TangentDDPM):
        yield "diffusers runs diffusion=ddpm and diffusion=ldm; flow matching has another time."
    if not isinstance(model.conditioning, Unconditional):
        yield "An LDMPipeline is told nothing, and this conditioning has classes or text."
    autoencoder, denoiser = model.autoencoder, model.denoiser
    folding = getattr(autoencoder, "folding", None) or getattr(getattr(autoencoder, "encoder", None), "folding", None)
    if not isinstance(autoencoder, PublishedAutoencoder | VQAutoencoder):
        yield "Its first stage is not autoencoder=vq_f4, vq or published, which diffusers has."
    elif isinstance(folding, PixelFolding) and (folding.patch_size > 1 or folding.right or folding.bottom):
        yield "Its first stage folds or pads pixels; autoencoder.patch_size=1 with the images' own side does not."
    if isinstance(autoencoder, PublishedAutoencoder) and autoencoder.channels != autoencoder.image_shape[0]:
        yield "Its first stage sees grey images as colour ones."
    if isinstance(config.autoencoder, VQ) and config.autoencoder.likelihood != "l1":
        yield "Its first stage has a Bernoulli likelihood; autoencoder.likelihood=l1 is what diffusers decodes."
    if isinstance(config.autoencoder, VQ) and not isinstance(getattr(autoencoder, "decoder_stem", None), nn.Conv2d):
        yield f"geometry.decoder_stem={config.geometry.decoder_stem} is no layer of diffusers."
    if isinstance(denoiser, UNetDenoiser):
        settings = config.denoiser
        if not isinstance(settings, UNet) or settings.stem != "linear" or settings.attention != "dot_product":
            yield "Its denoiser has a hyperbolic stem, or attention by distance."
        elif model.layout.shape[-1] % 2 ** (len(settings.block_channels) - 1):
            yield "Its latents have a side that not every level of the denoiser halves, as diffusers' must."
    elif not isinstance(denoiser, PublishedUNet):
        yield "Its denoiser is not a U-Net."


def pipeline(model: LatentDiffusion, config: RunConfig) -> LDMPipeline:
    """The model as diffusers has it."""
    first_stage = first_stage_of(model.autoencoder, config)
    unet = unet_of(model)
    # _name_or_path says where a folder lay that weights were read from
    first_stage.register_to_config(scaling_factor=float(1 / model.latent_scale), _name_or_path="")
    unet.register_to_config(_name_or_path="")
    return LDMPipeline(vqvae=first_stage, unet=unet, scheduler=scheduler_of(model, config))


def first_stage_of(autoencoder: Autoencoder, config: RunConfig) -> Any:
    """The VQModel or AutoencoderKL that a flat first stage is."""
    if isinstance(autoencoder, PublishedAutoencoder):
        return autoencoder.model
    settings = config.autoencoder
    assert isinstance(autoencoder, VQAutoencoder)
    assert isinstance(settings, VQ)
    levels = len(settings.block_channels)
    theirs = VQModel(
        in_channels=autoencoder.image_shape[0],
        out_channels=autoencoder.image_shape[0],
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=settings.block_channels,
        layers_per_block=settings.layers_per_block,
        latent_channels=settings.latent_channels,
        num_vq_embeddings=settings.codebook_size,
        norm_num_groups=settings.groups,
        sample_size=autoencoder.image_shape[-1],
    )
    names = {
        "latent_head.": "quant_conv.",
        "decoder_stem.": "post_quant_conv.",
        "quantizer.codes": "quantize.embedding.weight",
    }
    state = {}
    for name, x in autoencoder.state_dict().items():
        if not name.startswith("quantizer.") or name == "quantizer.codes":
            for ours, other in names.items():
                name = name.replace(ours, other) if name.startswith(ours) else name
            state[name] = x
    theirs.load_state_dict(state)
    return theirs.eval()


def unet_of(model: LatentDiffusion) -> Any:
    """The UNet2DModel that a denoiser without labels is.

    The embedding of "no label", which is the same at every step, is added to what the time's embedding ends with. Where
    the middle is one ResNet block, that of diffusers has zeros in what it has besides, which then adds nothing.
    """
    denoiser = model.denoiser
    if isinstance(denoiser, PublishedUNet):
        return denoiser.unet
    assert isinstance(denoiser, UNetDenoiser)
    ours: Any = denoiser.unet
    settings = ours.config
    theirs = UNet2DModel(
        sample_size=model.layout.sides[0],
        in_channels=settings.in_channels,
        out_channels=settings.out_channels,
        block_out_channels=settings.block_out_channels,
        down_block_types=settings.down_block_types,
        up_block_types=settings.up_block_types,
        layers_per_block=settings.layers_per_block,
        attention_head_dim=settings.attention_head_dim,
        norm_num_groups=settings.norm_num_groups,
        attn_norm_num_groups=settings.norm_num_groups,
        resnet_time_scale_shift=settings.resnet_time_scale_shift,
    )
    state = dict(ours.state_dict())
    if denoiser.embeds_classes:
        table: Tensor = state.pop("class_embedding.weight")
        state["time_embedding.linear_2.bias"] = state["time_embedding.linear_2.bias"] + table[-1]
    expected = theirs.state_dict()
    beside = {name for name in expected if name.startswith(("mid_block.attentions.0.", "mid_block.resnets.1."))}
    state |= {name: torch.zeros_like(expected[name]) for name in beside - state.keys()}
    theirs.load_state_dict(state)
    return theirs.eval()


def scheduler_of(model: LatentDiffusion, config: RunConfig) -> Any:
    """The scheduler of diffusers that takes the steps of the run's sampler."""
    process, section = model.process, config.diffusion.sampler
    assert isinstance(process, TangentDDPM)
    assert isinstance(section, SamplerSection)
    spacing, offset = SPACINGS.get(section.spacing, ("trailing", 0))
    own = {"timestep_spacing": spacing, "steps_offset": offset, "clip_sample": False}
    if section.method == "ddim":
        return DDIMScheduler.from_config(process.scheduler.config, set_alpha_to_one=not offset, **own)
    return SCHEDULERS[section.method].from_config(process.scheduler.config, **own)


def other_steps(model: LatentDiffusion, config: RunConfig) -> str:
    """A sentence where the scheduler of diffusers visits other steps than the run's sampler, else ""."""
    section, scheduler = config.diffusion.sampler, scheduler_of(model, config)
    assert isinstance(section, SamplerSection)
    n, ours = section.steps, timesteps(section.spacing, section.steps)
    scheduler.set_timesteps(n)
    theirs = [float(step) for step in scheduler.timesteps]
    # some take steps between two of the schedule
    is_same = len(theirs) == n and all(abs(a - b) <= 0.5 for a, b in zip(ours, theirs, strict=True))
    if section.method == "ddim":  # which goes back by this many wherever its next step is
        is_same = is_same and all(a - b == TRAIN_STEPS // n for a, b in pairwise(ours))
    if is_same:
        return ""
    lacking = "" if section.spacing in SPACINGS else f" (it has no {section.spacing} spacing)"
    return (
        f"The scheduler of diffusers takes other steps than the {n} that this run was judged with{lacking}, so its "
        "samples differ. HLDM.from_pretrained(folder) takes the run's own."
    )


# ----------------------------------------------------------------------------------------------------- a folder of ours


def for_others(config: RunConfig) -> dict[str, Any]:
    """The configuration as a folder for others has it: without places, machines, users and their cluster."""
    shared = config.model_copy(update={"first_stage": None, "hardware": Hardware(), "tracking": NoTracker()})
    content: dict[str, Any] = _without_places(shared.dump())
    return {**content, "paths": {"outputs": "outputs"}}


def text_model(config: RunConfig) -> str | None:
    """The trained text model that is needed beside the weights, a name on the hub or the name of a folder."""
    text = config.conditioning
    name = text.pretrained if isinstance(text, TextConditioning) and config.has_diffusion else None
    return None if name is None else str(_without_places(name))


def _without_places(node: Any) -> Any:
    """The configuration with every absolute path cut to its last part: where things lay says something of a machine."""
    if isinstance(node, dict):
        return {key: _without_places(value) for key, value in node.items() if key != "_name_or_path"}
    if isinstance(node, list):
        return [_without_places(value) for value in node]
    return Path(node).name if isinstance(node, str) and node.startswith("/") else node


def card(run: RunDirectory, dataset: Dataset, *, is_pipeline: bool, note: str = "") -> str:
    """The model card: what it is, what it scored, and how to load it; and a sentence about that."""
    config, results = run.config, run.results or {}
    metrics = results.get("metrics", {})
    shown = {name: value for name, value in metrics.items() if name in SHOWN}
    is_flat = config.has_flat_latents
    sampler = config.diffusion.sampler
    steps = sampler.network_evaluations if sampler is not None else 0
    if is_pipeline:
        eta = f", eta={sampler.eta:g}" if isinstance(sampler, SamplerSection) and sampler.eta else ""
        load = (
            "from diffusers import LDMPipeline\n\n"
            'pipeline = LDMPipeline.from_pretrained("<this folder>")\n'
            f"images = pipeline(batch_size=4, num_inference_steps={steps}{eta}).images"
        )
    else:
        load = (
            "from hldm.pipeline.pretrained import HLDM\n\n"
            'model = HLDM.from_pretrained("<this folder>")\n'
            "images = model.sample(16, seed=0)  # uint8 (16, C, H, W)"
        )
    published = config.first_stage if isinstance(config.autoencoder, Published) else None
    lines = [
        "---",
        f"library_name: {'diffusers' if is_pipeline else 'hldm'}",
        "tags: [latent-diffusion, unconditional-image-generation]"
        if is_flat
        else "tags: [latent-diffusion, hyperbolic-geometry]",
        "---",
        "",
        f"# {run.path.name}",
        "",
        f"Latent diffusion trained with hldm {__version__} on {dataset.name}, images of "
        f"{' × '.join(map(str, dataset.image_shape))}.",
        "",
        f"- Latents: {'flat' if is_flat else f'{config.geometry.name}, c = {config.curvature_words}'}, "
        f"{config.autoencoder.latent_channels} channels.",
        f"- First stage: {type(config.autoencoder).__name__}"
        + (f", published ({Path(published).name}), frozen." if published else "."),
        f"- Denoiser: {type(config.denoiser).__name__}; process: {type(config.diffusion.process).__name__}; "
        f"{steps} network evaluations for a sample.",
        f"- Seed {config.seed}.",
        "",
        "```python",
        load,
        "```",
        "",
        *([note, ""] if note else []),
        "| metric | value |",
        "|---|---|",
        *(f"| {name} | {value:.4g} |" for name, value in sorted(shown.items())),
        "",
        f"Measured by hldm on {results.get('provenance', {}).get('reference', 'the test images')}. The rights in the "
        "weights follow from those in the images that they were trained on.",
        "",
    ]
    return "\n".join(lines)


SHOWN = ("fid", "kid", "precision", "recall", "label_accuracy", "reconstruction_mse", "reconstruction_psnr")
"""Metrics that a card names."""
