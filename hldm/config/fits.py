"""Rules between sections: each says in one sentence what does not go together, and what to type instead."""

from collections.abc import Iterator

from hldm.config.archives import Archived
from hldm.config.autoencoder import (
    MAX_DIMENSION,
    MLP,
    VQ,
    Autoencoder,
    GlobalKL,
    Layout,
    MapGlobalKL,
    Published,
)
from hldm.config.conditioning import Guided, TextConditioning
from hldm.config.dataset import Branching, Omniglot, TreeImages
from hldm.config.diffusion import (
    DiffusionSampler,
    FlowMatching,
    FlowSampler,
    TangentDDPM,
)
from hldm.config.fits_networks import has_balls, nearest, sides, widths
from hldm.config.fits_published import published, published_unet
from hldm.config.fits_samplers import curves, noise_schedule
from hldm.config.fits_samples import data, known_trees
from hldm.config.fits_training import best_weights, cluster_jobs, decay, first_stage_losses, ranks
from hldm.config.geometry import PoincareBall
from hldm.config.pictures import Pictures
from hldm.config.schema import RunConfig

MOST_BALLS = 1000
"""Up to so many are named where they are asked for: there may be any number of channels."""


def problems(config: RunConfig) -> Iterator[str]:
    """A sentence for every pair of settings that cannot stand together."""
    for rule in (
        channels,
        layouts,
        global_points,
        parts,
        published,
        published_unet,
        likelihoods,
        curves,
        processes,
        noise_schedule,
        conditions,
        learned_curvature,
        captions,
        widths,
        sides,
        data,
        known_trees,
        first_stage_losses,
        decay,
        best_weights,
        cluster_jobs,
        ranks,
    ):
        yield from rule(config)


def channels(c: RunConfig) -> Iterator[str]:
    """Channels of the factors are positive, whole balls, and add up to those of the latent."""
    name, latent, flat = c.geometry.name, c.autoencoder.latent_channels, c.geometry.flat_channels
    factors = c.geometry.manifold.leaves
    sizes = [factor.dimension for factor in factors]
    if flat is not None and not 1 <= flat < latent:
        yield (
            f"geometry.flat_channels={flat} does not leave channels for every factor: there are "
            f"autoencoder.latent_channels={latent}, so it must be from 1 to {latent - 1}. "
            "For latents that are all flat type geometry=euclidean; for none, geometry=poincare."
            if latent > 1
            else f"geometry={name} needs at least {len(factors)} channels, but "
            f"autoencoder.latent_channels={latent}. Type autoencoder.latent_channels={2 * len(factors)}."
        )
    elif min(sizes) < 1:
        yield f"The factors of geometry={name} have {', '.join(map(str, sizes))} channels, and each needs one at least."
    elif sum(sizes) != latent:
        yield (
            f"The factors of geometry={name} have {' + '.join(map(str, sizes))} channels, but "
            f"autoencoder.latent_channels={latent}. Make the two equal, for example "
            f"autoencoder.latent_channels={sum(sizes)}."
        )
    for factor in factors:
        if isinstance(factor, PoincareBall) and factor.channels > 0 and factor.channels % factor.balls:
            some = range(1, min(factor.channels, MOST_BALLS) + 1)
            allowed = ", ".join(str(k) for k in some if factor.channels % k == 0)
            yield (
                f"balls={factor.balls} does not divide the {factor.channels} channels of its factor into whole balls. "
                f"Allowed are {allowed}."
            )


TO_TYPE = {
    Layout.MAP: ("latent=map", "autoencoder=kl or vq", "denoiser=unet"),
    Layout.POINT: ("latent=global", "autoencoder=kl_global or mlp", "denoiser=mlp or cross_attention"),
    Layout.BOTH: ("latent=map_global", "autoencoder=kl_map_global", "denoiser=unet_mlp"),
}
"""Layout → what to type: for both, for the autoencoder, for the denoiser."""


def layouts(c: RunConfig) -> Iterator[str]:
    """Autoencoder and denoiser are made for one layout."""
    latents, denoised = c.autoencoder.layout, c.denoiser.layout
    if c.has_diffusion and latents is not denoised:
        layout, _, denoiser = TO_TYPE[latents]
        yield (
            f"The autoencoder has {latents.value}, and the denoiser is made for {denoised.value}. Type {denoiser} to "
            f"keep the autoencoder, {TO_TYPE[denoised][1]} to keep the denoiser, {layout} for what the platform puts "
            "together, or diffusion=none for the autoencoder alone."
        )


def global_points(c: RunConfig) -> Iterator[str]:
    """Points for a whole image have a dimension that float32 bears, and a law that suits their layout."""
    autoencoder = c.autoencoder
    if isinstance(autoencoder, GlobalKL) and not 2 <= autoencoder.latent_channels <= MAX_DIMENSION:
        yield (
            f"autoencoder.latent_channels={autoencoder.latent_channels} is the dimension of the global point here, and "
            f"must be from 2 to {MAX_DIMENSION}, for example autoencoder.latent_channels=8. For more room type "
            "latent=map_global."
        )
    if not isinstance(autoencoder, MapGlobalKL):
        return
    if autoencoder.posterior == "riemannian":
        yield (
            "autoencoder.posterior=riemannian has one scale for each ball and each flat factor, so a flat map would "
            "have one for all its positions. With latent=map_global type autoencoder.posterior=wrapped."
        )
    if autoencoder.latent_rms is not None:
        yield (
            "autoencoder.latent_rms fixes the scale of latents that are a map or a point, and latent=map_global has "
            "both, which are scaled apart. Type autoencoder.latent_rms=null."
        )
    if autoencoder.flat_map and c.geometry.flat_channels is not None:
        yield (
            "autoencoder.flat_map=true leaves no ball in the map, and geometry=hybrid splits its channels. Type "
            "geometry=poincare, which is the same latent space, or autoencoder.flat_map=false."
        )


def parts(c: RunConfig) -> Iterator[str]:
    """Parts of the model suit the data and each other."""
    autoencoder, training = c.autoencoder, c.training.first_stage
    is_single = c.geometry.manifold.is_single
    for name in ("perceptual_weight", "adversarial_weight"):
        if not autoencoder.is_convolutional and getattr(training, name):
            yield (
                f"training.first_stage.{name} is about pictures as convolutions make them, autoencoder=kl or vq. Type "
                f"training.first_stage.{name}=0 with autoencoder=mlp."
            )
    if autoencoder.is_convolutional and c.geometry.decoder_stem == "mobius":
        yield (
            "geometry.decoder_stem=mobius is for vector latents, autoencoder=mlp. Use geometry.decoder_stem=gyroplane."
        )
    heads = (c.geometry.decoder_stem, autoencoder.encoder_head) if isinstance(autoencoder, MLP) else ()
    if "mobius" in heads and not is_single:
        yield (
            "A Möbius layer is defined on one ball, not on a product. Use geometry=poincare with one ball, or "
            "geometry.decoder_stem=gyroplane autoencoder.encoder_head=wrapped."
        )
    if isinstance(autoencoder, MLP) and autoencoder.gyroplane_form == "pvae" and not is_single:
        yield (
            "autoencoder.gyroplane_form=pvae is the authors' layer, which is defined on one ball. Type "
            "autoencoder.gyroplane_form=paper, or geometry=poincare with one ball."
        )
    if not c.dataset.has_pictures and (autoencoder.is_convolutional or c.metrics.extractors):
        yield (
            "dataset=branching has vectors, not pictures. Type autoencoder=mlp diffusion=none metrics=vectors with it; "
            "`experiment=pvae_tree` is the whole protocol."
            if isinstance(c.dataset, Branching)
            else "The data set has vectors, not pictures. Type autoencoder=mlp diffusion=none metrics=vectors with it."
        )
    if c.has_diffusion and c.training.diffusion is None:
        yield (
            "This training has no second stage, and the diffusion process needs one. Type diffusion=none, or "
            "training=standard."
        )
    if c.has_diffusion and c.diffusion.sampler is None:
        yield "A diffusion process needs a sampler. Type diffusion=flow or diffusion=ddpm, which have both."
    if not autoencoder.is_variational and not c.has_diffusion:
        yield (
            f"diffusion=none samples from the autoencoder's prior, and {_named(autoencoder)} has none. Type "
            f"diffusion=flow to learn one{_or_kl(autoencoder)}."
        )


def likelihoods(c: RunConfig) -> Iterator[str]:
    """Likelihoods need a posterior, a prior, and for the bound a flow. What auto asks for is left out instead."""
    images, process = c.metrics.likelihood_images, c.diffusion.process
    if images == "auto":
        images = 0
    if not c.autoencoder.is_variational:
        name, or_kl = _named(c.autoencoder), _or_kl(c.autoencoder)
        if c.metrics.likelihood is not None:
            yield (
                f"metrics=likelihood integrates over the autoencoder's prior, and {name} has none. Type "
                f"metrics=digits{or_kl}."
            )
        if images:
            yield (
                f"metrics.likelihood_images={images} bounds the likelihood of images by the posterior of their "
                f"latents, and {name} has none. Type metrics.likelihood_images=0{or_kl}."
            )
    if images and process is None:
        yield (
            f"metrics.likelihood_images={images} takes the diffusion model for the prior of the latents, and "
            "diffusion=none has none. Type metrics=likelihood for the likelihood under the autoencoder's own prior."
        )
    if images and c.autoencoder.is_variational and process is not None and not c.has_bound:
        yield (
            f"metrics.likelihood_images={images} follows the flow from the last step of the schedule, where "
            "diffusion.process.schedule=squaredcos_cap_v2 leaves 1/20000 of the latent, and "
            "diffusion.process.prediction=epsilon says nothing of it. Type diffusion.process.prediction=v."
        )


def processes(c: RunConfig) -> Iterator[str]:
    """A sampler runs its own process backwards."""
    process, sampler = c.diffusion.process, c.diffusion.sampler
    pairs = ((FlowMatching, FlowSampler, "flow"), (TangentDDPM, DiffusionSampler, "ddpm"))
    for process_class, sampler_class, option in pairs:
        if isinstance(sampler, sampler_class) and process is not None and not isinstance(process, process_class):
            yield f"The sampler is that of diffusion={option}, and the process is not. Type diffusion={option}."


def conditions(c: RunConfig) -> Iterator[str]:
    """Guidance has something to subtract."""
    if isinstance(c.conditioning, Guided) and c.conditioning.dropout == 0 and c.conditioning.guidance_scale != 1:
        yield (
            f"conditioning.guidance_scale={c.conditioning.guidance_scale:g} subtracts what the denoiser predicts "
            "without a condition, which conditioning.dropout=0 never trains. Type conditioning.guidance_scale=1, or "
            "conditioning.dropout=0.1."
        )


def learned_curvature(c: RunConfig) -> Iterator[str]:
    """A curvature is learned with the latents, or not at all."""
    if c.curvature.is_learnable and c.has_flat_latents and c.is_conditioned_on_balls:
        yield (
            f"curvature=learnable is learned with the autoencoder, and geometry={c.geometry.name} gives it no ball to "
            "learn from, so the balls of conditioning.hyperbolic=true would stay where they start. Type a number, such "
            "as curvature=1.0, or geometry=poincare."
        )


def captions(c: RunConfig) -> Iterator[str]:
    """Captions suit the data; the held-out one is new, but its words are not; the text transformer can be built."""
    text = c.conditioning
    if not isinstance(text, TextConditioning):
        return
    if isinstance(c.dataset, Branching | TreeImages | Omniglot | Pictures | Archived):
        of_digits = [
            caption for caption in (*text.templates, text.held_out) if {"digit", "digits"} & {*caption.split()}
        ]
        if of_digits:
            yield (
                f'The caption "{of_digits[0]}" speaks of digits, and the classes of this data set are not digits. Type '
                "conditioning=text_names, or conditioning.templates and conditioning.held_out of your own."
            )
    if text.held_out in text.templates:
        yield (
            f"conditioning.held_out={text.held_out} is one of conditioning.templates, so accuracy would be measured on "
            "a caption of training. Take it out of one of the two, or give it another order of the words."
        )
    words, known = text.held_out.split(" "), {word for template in text.templates for word in template.split(" ")}
    longest = max(len(template.split(" ")) for template in text.templates)
    if text.pretrained is None and (new := [word for word in words if word not in known]):
        yield (
            f"conditioning.held_out={text.held_out} has words that training never sees: {', '.join(new)}. Use those of "
            f"conditioning.templates: {', '.join(sorted(known - {'{}'}))}."
        )
    elif text.pretrained is None and len(words) > longest:
        yield (
            f"conditioning.held_out={text.held_out} is longer than every template of training, which have {longest} "
            "words at most: its last words would stand where none ever stood. Say it in fewer."
        )
    if text.channels % text.heads:
        yield (
            f"conditioning.heads={text.heads} does not divide conditioning.channels={text.channels}. "
            f"Try conditioning.channels={nearest(text.channels, text.heads)}."
        )
    if text.hyperbolic and not has_balls(text.channels):
        yield (
            f"conditioning.channels={text.channels} cannot be cut into balls of dimension 2 to 8, and a ball of "
            f"dimension 1 is a line, which is flat. Try conditioning.channels={nearest(text.channels, 8)}."
        )


def _named(autoencoder: Autoencoder) -> str:
    """What to call an autoencoder without a law of its latents: its option, where it is one of ours."""
    ours = {VQ: "autoencoder=vq", Published: "autoencoder=published"}
    return ours.get(type(autoencoder), "the chosen autoencoder")


def _or_kl(autoencoder: Autoencoder) -> str:
    """The other way out, where it needs no other change."""
    has_map = autoencoder.layout is Layout.MAP and not autoencoder.is_published
    return ", or autoencoder=kl, which has a law of its latents" if has_map else ""
