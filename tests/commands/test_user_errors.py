"""What a user can type wrong: one paragraph that says what is allowed, before any work."""

import tempfile
from pathlib import Path

import pytest

from tests.commands.advice import check_advice
from tests.conftest import Invoke
from tests.published import described

PUBLISHED = described(Path(tempfile.mkdtemp()))
UNET = described(PUBLISHED / "unet3", _class_name="UNet2DModel")
GIVEN = ["autoencoder=published", f"first_stage={PUBLISHED}"]

WRONG: dict[str, tuple[list[str], list[str]]] = {
    "option": (["geometry=poincarre"], ["geometry=poincarre", "Did you mean geometry=poincare", "hybrid"]),
    "option of a dataset": (["dataset=cifar"], ["dataset=cifar", "mnist"]),
    "negative curvature": (["curvature=-1"], ["curvature=-1", "≥ 0", "geometry=euclidean"]),
    "nan": (["curvature=nan"], ["curvature=nan", "finite"]),
    "infinity": (["curvature=inf"], ["curvature=inf", "finite"]),
    "a word in curvature.value": (["curvature.value=much"], ["curvature=much", "≥ 0"]),
    "true as curvature": (["curvature=true"], ["curvature=true", "learnable"]),
    "mix without -m": (["curvature=0.1,learnable"], ["mixes", "curvature=0.1", "curvature=learnable", "-m"]),
    "mix with -m": (["-m", "curvature=0.1,learnable"], ["mixes"]),
    "mix in choice()": (["-m", "curvature=choice(fixed,2)"], ["mixes"]),
    "several curvatures without -m": (["curvature=0.1,1.0"], ["several values", "-m"]),
    "range without -m": (["curvature=range(0.1,1.0,0.3)"], ["several values", "-m"]),
    "several seeds without -m": (["seed=0,1"], ["several values", "-m"]),
    "interval": (["-m", "curvature=interval(0.1,1)"], ["range("]),
    "interval of another key": (["-m", "seed=interval(0,3)"], ["range("]),
    "learnable from 0": (["curvature=learnable", "curvature.value=0"], ["positive", "1e-2"]),
    "unknown key": (["seeed=3"], ["no setting seeed", "seed="]),
    "unknown inner key": (
        ["training.first_stage.stepz=3"],
        ["training.first_stage.stepz", "training.first_stage.steps"],
    ),
    "unknown key in a dict": (["training.first_stage={stepz:3}"], ["training.first_stage.stepz"]),
    "key of another option": (["geometry=poincare", "geometry.flat_channels=1"], ["geometry=hybrid only"]),
    "new key": (["+seeed=3"], ["nothing reads", "seed=3"]),
    "forced key": (["++training.foo=3"], ["nothing reads"]),
    "deleted group": (["~tracking"], ["delete", "tracking=none"]),
    "no key": (["hybrid"], ["'hybrid'", "key=value"]),
    "seed is a word": (["seed=abc"], ["seed=abc", "whole number"]),
    "seed is negative": (["seed=-1"], ["seed=-1", "whole number"]),
    "seed is a fraction": (["seed=1.5"], ["seed=1.5", "whole number"]),
    "seed is true": (["seed=true"], ["seed=true", "whole number"]),
    "seed is null": (["seed=null"], ["seed=null", "whole number"]),
    "seed is too large": (["seed=99999999999"], ["4294967295"]),
    "seed is a list": (["seed=[0,1]"], ["seed=[0,1]", "whole number"]),
    "no steps": (["training.first_stage.steps=0"], ["training.first_stage.steps=0", "≥ 1"]),
    "negative steps": (["training.first_stage.steps=-5"], ["≥ 1"]),
    "no sampler steps": (["diffusion.sampler.steps=0"], ["≥ 1"]),
    "learning rate nan": (["training.diffusion.learning_rate=nan"], ["number > 0"]),
    "section is a number": (["training.first_stage=5"], ["section"]),
    "group is a number": (["training=5"], ["training=5", "standard"]),
    "list where a word is": (["geometry.decoder_stem=[1]"], ["geometry.decoder_stem=[1]", "linear, gyroplane"]),
    "posterior": (["autoencoder.posterior=normal"], ["wrapped, riemannian"]),
    "sampling seeds": (["metrics.sampling_seeds=3"], ["[0,1]"]),
    "study that is a path": (["study=../x"], ["study=../x", "folder name"]),
    "study that no folder can be": (["study=" + 210 * "ä"], ["it has 420 bytes", "of at most 200 bytes", "study=main"]),
    "width between groups": (["denoiser.block_channels=[64,70]"], ["70", "multiple of 16", "64"]),
    "heads that do not divide": (["denoiser.head_channels=48"], ["denoiser.head_channels=16"]),
    "stem": (["denoiser.stem=poincare"], ["denoiser.stem=poincare", "linear, gyroplane"]),
    "attention": (["denoiser.attention=hyperbolic"], ["dot_product, euclidean_distance, hyperbolic_distance"]),
    "curvature of the denoiser": (["denoiser.curvature=-1"], ["denoiser.curvature=-1", "≥ 0"]),
    "curvature of the denoiser by a wrong option": (
        ["denoiser.curvature=learned"],
        ["denoiser.curvature=learned", "Did you mean denoiser.curvature=learnable", "denoiser.curvature=0.37"],
    ),
    "a denoiser that learns its curvature from 0": (
        ["denoiser.stem=gyroplane", "denoiser.curvature=learnable", "denoiser.curvature.value=0"],
        ["cannot start at denoiser.curvature.value=0", "denoiser.curvature.value=1e-2", "denoiser.curvature=0 for"],
    ),
    "the switch that was there before": (["denoiser.learnable_curvature=true"], ["denoiser.curvature=learnable"]),
    "a denoiser's curvatures of two kinds": (
        ["-m", "denoiser.curvature=0.1,learnable"],
        ["mixes", "denoiser.curvature"],
    ),
    "heads without a ball": (
        ["denoiser.attention=hyperbolic_distance", "denoiser.head_channels=1"],
        ["denoiser.head_channels=1", "2 to 8", "denoiser.head_channels=16"],
    ),
    "cell of the ablation": (["ablation=attenton"], ["ablation=attenton", "Did you mean ablation=attention"]),
    "a side that cannot be halved": (["autoencoder.padded_side=30"], ["multiple of 4", "autoencoder.padded_side=32"]),
    "hybrid without a ball": (["geometry=hybrid", "geometry.flat_channels=4"], ["from 1 to 3", "geometry=poincare"]),
    "hybrid without flat": (["geometry=hybrid", "geometry.flat_channels=0"], ["from 1 to 3", "geometry=euclidean"]),
    "hybrid with one channel": (["geometry=hybrid", "autoencoder.latent_channels=1"], ["at least 2 channels"]),
    "balls": (["geometry=poincare", "geometry.manifold.balls=3"], ["balls=3", "1, 2, 4"]),
    "channels": (["geometry=poincare", "geometry.manifold.channels=2"], ["latent_channels=4"]),
    "a U-Net on vectors": (["autoencoder=mlp"], ["diffusion=none", "autoencoder=kl", "denoiser=mlp"]),
    "layout": (["latent=point"], ["latent=point", "map", "global", "map_global"]),
    "codes of one point": (["latent=global", "autoencoder=vq"], ["a map of points", "denoiser=unet", "latent=map"]),
    "an MLP on a map": (["denoiser=mlp"], ["a map of points", "denoiser=unet", "latent=map"]),
    "a U-Net on a point": (["latent=global", "denoiser=unet"], ["one point per image", "denoiser=mlp"]),
    "attention of a point on a map": (
        ["denoiser=cross_attention"],
        ["a map of points", "denoiser=unet", "autoencoder=kl_global"],
    ),
    "heads of a point": (
        ["latent=global", "denoiser=cross_attention", "denoiser.heads=3"],
        ["denoiser.heads=3", "does not divide denoiser.width=256", "denoiser.width=255"],
    ),
    "no heads of a point": (["latent=global", "denoiser=cross_attention", "denoiser.heads=0"], ["heads=0", "≥ 1"]),
    "heads where nothing attends": (["latent=global", "denoiser.heads=2"], ["denoiser=cross_attention only"]),
    "a map where there is a point too": (
        ["latent=map_global", "autoencoder=kl"],
        ["beside one point", "kl_map_global"],
    ),
    "a point of too many dimensions": (
        ["latent=global", "autoencoder.latent_channels=17"],
        ["from 2 to 16", "map_global"],
    ),
    "a point of one dimension": (["latent=map_global", "autoencoder.global_channels=1"], ["from 2 to 16"]),
    "a point where there is none": (["autoencoder.global_channels=4"], ["autoencoder=kl_map_global only"]),
    "flat map of a hybrid": (
        ["latent=map_global", "geometry=hybrid", "autoencoder.flat_map=true"],
        ["geometry=poincare", "autoencoder.flat_map=false"],
    ),
    "flat map that is no switch": (["latent=map_global", "autoencoder.flat_map=1"], ["true or false"]),
    "a Riemannian posterior of both": (
        ["latent=map_global", "autoencoder.posterior=riemannian"],
        ["autoencoder.posterior=wrapped"],
    ),
    "features": (["latent=global", "autoencoder.feature_channels=0"], ["feature_channels=0", "≥ 1"]),
    "style": (["latent=global", "autoencoder.style_channels=0"], ["style_channels=0", "≥ 1"]),
    "width of the MLP": (["latent=global", "denoiser.width=0"], ["denoiser.width=0", "≥ 1"]),
    "blocks of the MLP": (["latent=map_global", "denoiser.blocks=0"], ["denoiser.blocks=0", "≥ 1"]),
    "vectors as pictures": (["dataset=branching"], ["autoencoder=mlp", "experiment=pvae_tree"]),
    "mobius on maps": (["geometry.decoder_stem=mobius"], ["autoencoder=mlp", "gyroplane"]),
    "codebook": (["autoencoder=vq", "autoencoder.codebook=kmeans"], ["codebook=kmeans", "gradient, ema"]),
    "latents of no size": (["autoencoder.latent_rms=0"], ["latent_rms=0", "> 0"]),
    "one code": (["autoencoder=vq", "autoencoder.codebook_size=1"], ["codebook_size=1", "≥ 2"]),
    "commitment": (["autoencoder=vq", "autoencoder.commitment_weight=-1"], ["commitment_weight=-1", "≥ 0"]),
    "codebook weight": (["autoencoder=vq", "autoencoder.codebook_weight=nan"], ["codebook_weight=nan", "≥ 0"]),
    "decay of the codebook": (["autoencoder=vq", "autoencoder.ema_decay=1"], ["ema_decay=1", "< 1"]),
    "initial batches": (["autoencoder=vq", "autoencoder.initial_batches=-1"], ["initial_batches=-1", "≥ 0"]),
    "revival at once": (["autoencoder=vq", "autoencoder.revive_after=0"], ["revive_after=0", "≥ 1", "null"]),
    "a codebook of the other kind": (["autoencoder.codebook=ema"], ["autoencoder=vq and autoencoder=vq_f4 only"]),
    "codes without a prior": (["autoencoder=vq", "diffusion=none"], ["diffusion=flow", "autoencoder=kl"]),
    "likelihood without a prior": (["autoencoder=vq", "metrics=likelihood"], ["metrics=digits", "autoencoder=kl"]),
    "diffusion without a second stage": (["training=pvae"], ["diffusion=none", "training=standard"]),
    "noise without variance": (["experiment=pvae_tree", "dataset.noise_variance=0"], ["number > 0"]),
    "solver": (["diffusion.sampler.method=rk45"], ["method=rk45", "rk4", "adaptive"]),
    "solver of another process": (["diffusion.sampler.method=ddim"], ["midpoint, euler, heun, rk4, adaptive"]),
    "sampler of another process": (
        ["diffusion=ddpm", "diffusion.sampler.method=rk4"],
        ["ddim, ddpm, dpm_solver++, unipc, euler"],
    ),
    "pairing": (["diffusion.process.pairing=sinkhorn"], ["independent, optimal_transport"]),
    "tolerance": (["diffusion.sampler.method=adaptive", "diffusion.sampler.tolerance=0"], ["number ≥ 1e-06"]),
    "prediction": (["diffusion=ddpm", "diffusion.process.prediction=noise"], ["v, epsilon, x0"]),
    "min-SNR": (["diffusion=ddpm", "diffusion.process.min_snr_gamma=-1"], ["> 0", "null"]),
    "terminal SNR": (["diffusion=ddpm", "diffusion.process.zero_terminal_snr=1"], ["true or false"]),
    "noise of DDIM": (["diffusion=ddpm", "diffusion.sampler.eta=2"], ["from 0 to 1"]),
    "noise of a sampler that has none": (
        ["diffusion=ddpm", "diffusion.sampler.method=unipc", "diffusion.sampler.eta=0.5"],
        ["method=ddim", "diffusion.sampler.eta=0"],
    ),
    "noise prediction of pure noise": (
        ["diffusion=ddpm", "diffusion.process.prediction=epsilon", "diffusion.process.zero_terminal_snr=true"],
        ["zero_terminal_snr=true", "diffusion.process.prediction=v"],
    ),
    "noise prediction on the cosine schedule": (
        ["diffusion=ddpm", "diffusion.process.prediction=epsilon", "diffusion.process.schedule=squaredcos_cap_v2"],
        ["diffusion.sampler.method=ddpm", "diffusion.process.prediction=v"],
    ),
    "a negative number of images": (["metrics.likelihood_images=-1"], ["likelihood_images=-1", "≥ 2"]),
    "a bound of one image": (["metrics.likelihood_images=1"], ["likelihood_images=1", "0 for none"]),
    "guidance without dropout": (["conditioning.dropout=0"], ["Type conditioning.guidance_scale=1"]),
    "a cell about the U-Net without one": (["ablation=attention", "latent=global"], ["Type latent=map", "ablation="]),
    "its stem": (["ablation=stem_flat", "latent=global", "denoiser=cross_attention"], ["denoiser.stem=gyroplane"]),
    "nothing to embed": (["ablation=conditioning", "conditioning=none"], ["Type conditioning=class"]),
    "no steps of the likelihood": (["metrics.likelihood_steps=0"], ["likelihood_steps=0", "from 1 to 100000"]),
    "a bound without posteriors": (
        ["autoencoder=vq", "metrics.likelihood_images=10"],
        ["metrics.likelihood_images=0", "autoencoder=kl"],
    ),
    "a bound without diffusion": (["diffusion=none", "metrics.likelihood_images=10"], ["metrics=likelihood"]),
    "a bound from pure noise": (
        [
            "diffusion=ddpm",
            "diffusion.process.prediction=epsilon",
            "diffusion.process.schedule=squaredcos_cap_v2",
            "diffusion.sampler.method=ddpm",
            "metrics.likelihood_images=10",
        ],
        ["likelihood_images=10", "diffusion.process.prediction=v"],
    ),
    "more sampler steps than there are": (["diffusion=ddpm", "diffusion.sampler.steps=2000"], ["1000"]),
    "text templates": (["conditioning=text", "conditioning.templates=[a digit]"], ["{} once", "a handwritten {}"]),
    "no templates": (["conditioning=text", "conditioning.templates=[]"], ["conditioning.templates=[]", "a list"]),
    "a held-out caption of training": (
        ["conditioning=text", "conditioning.held_out='the digit {}'"],
        ["conditioning.held_out=the digit {}", "caption of training"],
    ),
    "a held-out caption of new words": (
        ["conditioning=text", "conditioning.held_out='a scribbled {}'"],
        ["scribbled", "never sees", "handwritten"],
    ),
    "a held-out caption that is too long": (
        ["conditioning=text", "conditioning.held_out='a picture of a handwritten digit of the {}'"],
        ["longer", "7 words"],
    ),
    "captions of digits for other pictures": (
        ["conditioning=text", "dataset=tree_images"],
        ['"the digit {}"', "are not digits", "conditioning=text_names"],
    ),
    "a held-out caption of digits for characters": (
        [
            "conditioning=text_names",
            "dataset=omniglot",
            "dataset.folder=.",
            "conditioning.held_out='this is a digit {}'",
        ],
        ['"this is a digit {}"', "are not digits"],
    ),
    "heads of the text model": (["conditioning=text", "conditioning.heads=3"], ["does not divide", "channels=63"]),
    "layers of the text model": (["conditioning=text", "conditioning.layers=0"], ["whole number ≥ 1"]),
    "channels of the text model": (["conditioning=text", "conditioning.channels=x"], ["whole number ≥ 1"]),
    "pretrained text model": (["conditioning=text", "conditioning.pretrained=./nowhere"], ["./nowhere", "null"]),
    "hyperbolic conditioning": (["conditioning.hyperbolic=2"], ["conditioning.hyperbolic=2", "true or false"]),
    "a learned curvature that nothing learns": (
        ["conditioning.hyperbolic=true", "curvature=learnable"],
        ["curvature=1.0", "geometry=poincare"],
    ),
    "a scale of map and point": (["latent=map_global", "autoencoder.latent_rms=1"], ["autoencoder.latent_rms=null"]),
    "channels that make no balls": (
        ["conditioning=text", "conditioning.hyperbolic=true", "conditioning.channels=61", "conditioning.heads=1"],
        ["channels=61", "conditioning.channels=64"],
    ),
    "text settings without text": (["conditioning.heads=2"], ["conditioning=text and conditioning=text_names only"]),
    "perceptual weight": (["training.first_stage.perceptual_weight=-1"], ["perceptual_weight=-1", "≥ 0"]),
    "perceptual features": (["training.first_stage.perceptual_features=vgg"], ["one of digits, lpips"]),
    "a perceptual backbone that is not there": (
        [
            "training.first_stage.perceptual_weight=1",
            "training.first_stage.perceptual_features=lpips",
            "training.first_stage.perceptual_backbone=./nowhere.pth",
        ],
        ["nowhere.pth is not a file", "https://download.pytorch.org/models/vgg16-397923af.pth", "=<that file>"],
    ),
    "a perceptual backbone that is a list": (["training.first_stage.perceptual_backbone=[3]"], ["a file, or null"]),
    "adversarial weight": (["training.first_stage.adversarial_weight=x"], ["adversarial_weight=x", "≥ 0"]),
    "adversarial start": (["training.first_stage.adversarial_start=-1"], ["adversarial_start=-1", "≥ 0"]),
    "an adversary of vectors": (
        ["autoencoder=mlp", "diffusion=none", "training.first_stage.adversarial_weight=0.5"],
        ["autoencoder=kl or vq", "Type training.first_stage.adversarial_weight=0"],
    ),
    "no first stage": (["first_stage=nowhere"], ["nowhere is neither a run nor", "outputs/<study>/<run id>"]),
    "a first stage that is a number": (["first_stage=3"], ["/3 is neither a run", "null to train one"]),
    "published, but where": (["autoencoder=published"], ["first_stage=<folder"]),
    "a published folder by itself": ([f"first_stage={PUBLISHED}"], ["Type autoencoder=published"]),
    "published on a ball that is learned": (
        [*GIVEN, "geometry=poincare", "curvature=learnable"],
        ["is frozen", "curvature=1.0"],
    ),
    "a published network, but where": (["denoiser=published"], ["denoiser.folder=<folder"]),
    "a published network that predicts no latents": (
        [
            "denoiser=published",
            "conditioning=none",
            f"denoiser.folder={described(PUBLISHED / 'unet4', _class_name='UNet2DModel', in_channels=4)}",
        ],
        ["takes 4 channels and predicts 3", "latents have 4"],
    ),
    "a published network that is told no class": (
        ["denoiser=published", f"denoiser.folder={UNET}"],
        ["told nothing", "conditioning=none"],
    ),
    "a first stage as a network": (
        ["denoiser=published", "conditioning=none", f"denoiser.folder={PUBLISHED}"],
        ["AutoencoderKL", "UNet2DModel or UNet2DConditionModel"],
    ),
    "an untrained network left as it is": (["training.diffusion.steps=0"], ["untrained", "denoiser=published"]),
    "a network left as it is whose latents are measured": (
        ["denoiser=published", "conditioning=none", f"denoiser.folder={UNET}", "training.diffusion.steps=0"],
        ["diffusion=ldm"],
    ),
    "published without diffusion": ([*GIVEN, "diffusion=none"], ["Type diffusion=flow"]),
    "published without likelihood": ([*GIVEN, "metrics.likelihood_images=5"], ["Type metrics.likelihood_images=0"]),
    "marginal likelihood of images without one": ([*GIVEN, "metrics=likelihood"], ["Type metrics=digits"]),
    "a side that published levels cannot halve": (
        [*GIVEN, "autoencoder.padded_side=37"],
        ["autoencoder.padded_side=37", "multiple of 4", "autoencoder.padded_side=40"],
    ),
    "a side that a published U-Net cannot halve": (
        ["denoiser=published", "conditioning=none", f"denoiser.folder={UNET}", "autoencoder.padded_side=28"],
        ["autoencoder.padded_side=28", "autoencoder and the denoiser", "multiple of 16", "autoencoder.padded_side=32"],
    ),
    "another class of diffusers": (
        ["autoencoder=published", f"first_stage={described(PUBLISHED / 'unet', _class_name='UNet2DModel')}"],
        ["UNet2DModel", "AutoencoderKL or VQModel"],
    ),
    "no GPU": (["hardware=gpu"], ["GPU", "hardware=cpu"]),
    "compile": (["hardware.compile=always"], ["true or false"]),
    "device": (["hardware.device=tpu"], ["auto, cpu, cuda"]),
    "more threads than cores": (["hardware.slots=2", "hardware.threads=2"], ["2 cores", "hardware.threads=1"]),
    "two kinds of hardware": (["-m", "hardware=cpu,auto"], ["hardware", "one value"]),
    "sweep over folders": (["-m", "study=a,b"], ["cannot change a result"]),
    "missing file": (["dataset.folder=nowhere"], ["nowhere", "does not exist"]),
    "weights that are not bundled": (["metrics=inception"], ["metrics.weights=<that file>", "metrics=digits"]),
    "missing weights": (["metrics=inception", "metrics.weights=nowhere"], ["nowhere is not a file"]),
    "weights of something else": (["metrics=inception", f"metrics.weights={__file__}"], ["does not hold", "Inception"]),
    "weights of dinov2 that are not bundled": (["metrics=dinov2"], ["dinov2_vits14_pretrain.pth", "metrics.weights="]),
    "dinov2 weights of something else": (
        ["metrics=dinov2", f"metrics.weights={__file__}"],
        ["does not hold", "DINOv2's weights"],
    ),
    "weights that nothing reads": (["metrics.weights=some.pth"], ["metrics=dinov2 and metrics=inception only"]),
    "missing weights for lpips": (
        ["metrics.perceptual_weights=nowhere"],
        ["reconstruction_lpips", "vgg16-397923af.pth", "metrics.perceptual_weights=null"],
    ),
    "missing weights of digits": (
        ["metrics.extractors=[{_target_:hldm.metrics.DigitFeatures,weights:nowhere}]"],
        ["nowhere", "metrics.extractors=[digits]"],
    ),
    "scales without validation images": (
        ["metrics.guidance_scales=[1,2]", "dataset.validation_images=0"],
        ["metrics.guidance_scales=[1.0,2.0]", "validation images", "dataset.validation_images=5000"],
    ),
    "scales without guidance": (
        ["metrics.guidance_scales=[1,2]", "conditioning=none"],
        ["classifier-free guidance", "Type metrics.guidance_scales=[]"],
    ),
    "scales without diffusion": (
        ["metrics.guidance_scales=[1,2]", "diffusion=none"],
        ["sampling by diffusion", "Type metrics.guidance_scales=[]"],
    ),
    "scales without samples": (
        ["metrics.guidance_scales=[1,2]", "metrics.extractors=[]"],
        ["metrics.extractors=[] draws none"],
    ),
    "a scale twice": (["metrics.guidance_scales=[1,1.0,2]"], ["a value twice", "metrics.guidance_scales=[1.0,2.0]"]),
    "a scale below zero": (
        ["metrics.guidance_scales=[-1,2]"],
        ["metrics.guidance_scales=", "a list of numbers from 0 to 1000"],
    ),
    "a method that the sampler lacks": (
        ["metrics.sampler_methods=[midpoint,ddim]"],
        ["metrics.sampler_methods has ddim", "midpoint, euler, heun, rk4, adaptive"],
    ),
    "a number of steps that the sampler lacks": (
        ["diffusion=ddpm", "metrics.sampler_steps=[50,2000]"],
        ["metrics.sampler_steps has 2000", "diffusion.sampler.steps must be"],
    ),
    "a method that does not suit the process": (
        [
            "diffusion=ddpm",
            "diffusion.process.prediction=epsilon",
            "diffusion.process.schedule=squaredcos_cap_v2",
            "diffusion.sampler.method=ddpm",
            "metrics.sampler_methods=[ddpm,euler]",
        ],
        ["metrics.sampler_methods has euler: ", "diffusion.sampler.method=ddpm"],
    ),
    "an unknown extractor": (["metrics.extractors=[digits,digitz]"], ["digitz is not one of digits, ", "inception"]),
    "an extractor twice": (["metrics.extractors=[digits,digits]"], ["digits twice", "metrics.extractors=[digits]"]),
    "extractors without brackets": (["metrics.extractors=digits,unlabelled"], ["metrics.extractors=digits,unlabelled"]),
    "an extractor, not a list": (["metrics.extractor=digits"], ["Did you mean metrics.extractors=…"]),
    "other weights of digits": ([f"metrics.classifier.weights={__file__}"], ["does not hold a digit classifier"]),
    "grid and --cfg": (["-m", "--cfg", "job"], ["--cfg", "-m"]),
    "--cfg and grid": (["--cfg=job", "--multirun"], ["--cfg", "-m"]),
    "one bad value in a grid": (["-m", "geometry=poincare", "curvature=1.0,-1"], ["curvature=-1"]),
    "one bad seed in a grid": (["-m", "seed=1,x"], ["seed=x"]),
    "bad option in a grid": (["-m", "geometry=euclidean,flat"], ["geometry=flat", "euclidean"]),
    "unknown key in a grid": (["-m", "seed=1,2", "foo.bar=3"], ["no setting foo.bar"]),
    "interpolation": (["seed=${nope}"], ["nope"]),
    "a variable that is not set": (["seed=${oc.env:NOPE_}"], ["seed", "environment variable NOPE_", "Type seed=…"]),
    **{
        f"launcher {name}": (["-m", f"hydra/launcher={name}", "seed=0,1"], [f"launcher={name}", "hardware=auto"])
        for name in ("basic", "submitit_local", "joblib")
    },
    "launcher of submitit": (
        ["-m", "hydra/launcher=submitit_slurm", "seed=0,1"],
        ["hardware=slurm_gpu", "hardware.slurm.partition=…"],
    ),
    "setting of a launcher": (
        ["-m", "hydra.launcher.partition=gpu", "seed=0,1"],
        ["hardware=slurm_gpu hardware.slurm.partition=gpu"],
    ),
    "hardware of two kinds": (["-m", "hardware=cpu,slurm_gpu"], ["hardware", "one value"]),
    "launcher of one run": (["hydra/launcher=basic"], ["hardware=auto"]),
    "sweeper": (["-m", "hydra/sweeper=optuna", "seed=0,1"], ["hydra/sweeper=optuna", "-m makes a grid"]),
    "folders of Hydra": (["hydra.run.dir=x"], ["paths.outputs=…"]),
    "files of Hydra": (["hydra.output_subdir=x"], ["paths.outputs=…"]),
    "sweeper's parameters": (["-m", "hydra.sweeper.params.seed=0,1"], ["conf/sweep/", "-m seed=a,b"]),
    "two sweeps": (["sweep=ablation,latent_radius"], ["several grids", "`python train.py sweep=ablation`"]),
    "two sweeps, each by itself": (["sweep=ablation", "sweep=latent_radius"], ["twice"]),
    "a list of sweeps": (["sweep=[ablation,latent_radius]"], ["takes one option"]),
    "a setting of a grid twice": (["-m", "seed=0,1", "seed=2"], ["seed=0,1 and seed=2", "twice"]),
    "nothing that matches": (["-m", "geometry=glob(z*)"], ["matches nothing", "poincare"]),
    "an empty range": (["-m", "seed=range(3,1)"], ["no values", "range(start,stop,step)"]),
    "a range that stands still": (["-m", "seed=range(0,3,0)"], ["no values"]),
    "a range of fractions that stands still": (["-m", "curvature=range(0.1,1,0)"], ["no values"]),
    "a range without end": (["-m", "seed=range(0,inf)"], ["no end", "range(start,stop,step)"]),
    "a range of too many": (["-m", "seed=range(0,1000000000)"], ["seed=range", "1000000000 values", "10000 runs"]),
    "a shuffled range of too many": (["-m", "seed=shuffle(range(0,1000000000))"], ["1000000000 values"]),
    "a range of too small steps": (["-m", "curvature=range(0.5,1,1e-12)"], ["500000000001 values", "larger step"]),
    "too many combinations": (
        ["-m", "geometry=poincare,hybrid", "curvature=range(1,1001)", "seed=range(0,10000)", "sweep=latent_radius"],
        ["2 of geometry × 1000 of curvature × 10000 of seed", "20000000 runs", "10000 at most", "several commands"],
    ),
    "too many searches": (
        ["-m", "search=tpe", "curvature=interval(0.1,1)", "geometry=poincare,hybrid", "seed=range(0,9999)"],
        ["2 of geometry × 9999 of seed", "19998 runs"],
    ),
    "a list for a group": (["geometry=[poincare,hybrid]"], ["python train.py -m geometry=poincare,hybrid"]),
    "a mapping for a group": (["curvature={value:0.3}"], ["Type curvature.value=0.3"]),
    "nothing before =": (["=3"], ["'=3'", "seed=3"]),
    "two equals signs": (["seed==3"], ["seed=3"]),
    "rerun": (["--experimental-rerun", "nofile"], ["--experimental-rerun is not supported"]),
    "another configuration": (["-cn", "foo"], ["-cn is not supported", "--config-dir"]),
    "--cfg of nothing": (["--cfg", "foo"], ["one of job, hydra, all"]),
    "--resolve of nothing": (["--resolve"], ["--cfg job --resolve"]),
    "--info of nothing": (["--info", "foo"], ["searchpath"]),
    "no folder of options": (["--config-dir", "nowhere"], ["nowhere", "conf/"]),
    "no folder to search": (["hydra.searchpath=[file:///nowhere]"], ["/nowhere", "conf/"]),
    "a home that is not there": (["dataset.folder=~no_such_user/x"], ["~no_such_user/x", "Type the whole path"]),
    "a home of outputs": (["study=x", "first_stage=~no_such_user/x"], ["~no_such_user/x", "Type the whole path"]),
    "a home of text models": (["conditioning=text", "conditioning.pretrained=~no_such_user/x"], ["the whole path"]),
    "a flag for a setting": (["--seed", "3"], ["seed=3"]),
    "a flag with a value": (["--dataset=mnist"], ["dataset=mnist"]),
    "a flag of other tools": (["--lr", "1e-3"], ["--lr", "training.diffusion.learning_rate"]),
    "a flag with dashes": (["--batch-size=3"], ["training.diffusion.batch_size"]),
    "a flag for what happens anyway": (["--resume"], ["none is needed"]),
    "a flag of nothing": (["--foo"], ["--foo is not a flag", "seed=3"]),
    **{
        f"habit {typed}": ([typed], expected)
        for typed, *expected in (
            ("lr=1e-3", "training.diffusion.learning_rate"),
            ("batch_size=3", "training.first_stage.batch_size"),
            ("epochs=3", "training.diffusion.steps"),
            ("trainer.max_epochs=3", "training.diffusion.steps"),
            ("+trainer.max_epochs=3", "training.diffusion.steps"),
            ("logger=wandb", "tracking=wandb"),
            ("wandb.project=x", "tracking.project"),
            ("c=1", "curvature"),
            ("resume=true", "none is needed"),
            ("fp16=true", "float32"),
            ("data_dir=x", "dataset.folder"),
            ("training/optimizer=adam", "training=pvae"),
            ("geometry=hyperbolic", "Did you mean geometry=poincare"),
            ("geometry=POINCARE", "Did you mean geometry=poincare"),
            ("hardware=cuda", "Did you mean hardware=gpu"),
            ("tracking=false", "Did you mean tracking=none"),
            ("diffusion=null", "Did you mean diffusion=none"),
        )
    },
    **{
        f"beyond float32: {typed}": ([typed], [typed.partition("=")[0], "float32"])
        for typed in (
            "curvature=1e300",
            "curvature=1e-60",
            "training.diffusion.learning_rate=1e300",
            "training.first_stage.learning_rate=1e-300",
            "training.optimizer.weight_decay=1e39",
            "training.diffusion.clip_norm=1e-50",
            "autoencoder.kl_weight=1e300",
            "conditioning.guidance_scale=1e39",
            "diffusion.sampler.tolerance=1e-300",
        )
    },
    "decay of more than a weight": (["training.optimizer.weight_decay=1e4"], ["more than all of a weight"]),
    "a tolerance that float32 cannot reach": (
        ["diffusion.sampler.method=adaptive", "diffusion.sampler.tolerance=1e-30"],
        ["a number ≥ 1e-06"],
    ),
    "more samples of a class than there are": (["metrics.samples=55000"], ["51150", "metrics.samples=5000"]),
    "too few samples": (["metrics.samples=5"], ["metrics.samples=5", "metrics.samples=10"]),
    "one seed twice": (["metrics.sampling_seeds=[0,0]"], ["twice", "metrics.sampling_seeds=[0]"]),
    "more test images than there are": (["metrics.first_stage_images=20000"], ["10000"]),
    "a likelihood of more test images": (
        ["metrics=likelihood", "metrics.likelihood.images=20000"],
        ["metrics.likelihood.images=20000", "Type metrics.likelihood.images=10000"],
    ),
    "more images checked than looked at": (
        ["metrics=likelihood", "metrics.likelihood.images=10", "metrics.likelihood.checked_images=5000"],
        ["more than metrics.likelihood.images=10", "Type metrics.likelihood.checked_images=10"],
    ),
    "more latents than images": (
        ["metrics.hierarchy.points=1000000"],
        ["more than metrics.first_stage_images=5000", "Type metrics.hierarchy.points=5000"],
    ),
    "more latents tested than images": (
        ["metrics.hierarchy.test_points=1000000"],
        ["more than metrics.first_stage_images=5000", "Type metrics.hierarchy.test_points=5000"],
    ),
    "an image that does not fit": (["autoencoder.padded_side=24"], ["28 × 28", "autoencoder.padded_side=32"]),
    "learnable from almost 0": (["curvature=learnable", "curvature.value=1e-60"], ["positive", "curvature=0"]),
    "a whole number of many digits": (["metrics.sampling_seeds=[99999999999999999999]"], ["too many digits"]),
    "steps without end": (["training.first_stage.steps=1e30"], ["too many digits"]),
    "a batch larger than the data": (["training.diffusion.batch_size=100000"], ["55000", "batch_size=128"]),
    "a batch larger than what validation leaves": (
        ["dataset.validation_images=50000", "training.diffusion.batch_size=10001"],
        ["the 10000 images", "batch_size=128"],
    ),
    "more samples than a class has": (["metrics.samples=51151"], ["51150", "Try metrics.samples=5000"]),
    "more samples than validation leaves": (
        ["dataset.validation_images=10000", "metrics.samples=50000"],
        ["46500", "Try metrics.samples=5000"],
    ),
    "missing value": (["seed=???"], ["seed"]),
    "a mapping where a list is": (["metrics.extractors={a:1}"], ["metrics.extractors={a:1}", "another kind of value"]),
    "an extractor that is a number": (["metrics.extractors=[1]"], ["metrics.extractors=1", "digits, unlabelled"]),
    "no extractors": (["metrics.extractors=null"], ["a list of names, or [] for no samples"]),
    "a list that is too short": (["training.optimizer.betas=[0.9]"], ["a list of 2 numbers"]),
    "guidance that overflows": (["conditioning.guidance_scale=1e30"], ["a number from 0 to 1000"]),
    "a curve of guidance that overflows": (["metrics.guidance_scales=[1,1e30]"], ["numbers from 0 to 1000"]),
    "one number of steps": (["metrics.sampler_steps=[8]"], ["one value", "diffusion.sampler.steps=8"]),
    "steps of a solver that chooses them": (
        ["diffusion.sampler.method=adaptive", "metrics.sampler_steps=[2,4]"],
        ["chooses by its tolerance", "metrics.sampler_steps=[]"],
    ),
    "a tree without end": (
        ["experiment=pvae_tree", "dataset.depth=1000000000"],
        ["dataset.depth=1000000000", "more than the 1000000000 numbers", "dataset.depth=6"],
    ),
    "a chain without end": (
        ["experiment=pvae_tree", "dataset.depth=1000000000", "dataset.children=1"],
        ["more than the 1000000000 numbers"],
    ),
    "balls of a billion channels": (
        ["geometry=poincare", "autoencoder.latent_channels=1000000000", "geometry.manifold.balls=7"],
        ["balls=7", "Allowed are 1, 2, 4, 5"],
    ),
    "a denoiser that is not there": (
        ["denoiser=published", "denoiser.folder=/nowhere"],
        ["denoiser.folder=/nowhere has no config.json", "denoiser.folder=<folder"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_is_one_paragraph_before_any_work(
    case: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And every command and setting that the paragraph tells its reader to type is accepted."""
    argv, expected = WRONG[case]
    status, out, err = invoke(*argv)
    text = " ".join(err.split())
    assert status == 2
    assert "Traceback" not in err
    assert "\n\n" not in err
    assert max(map(len, err.splitlines())) <= 100
    for part in expected:
        assert part in text
    assert out == ""
    check_advice(argv, err, monkeypatch)
    assert not list(Path("outputs").glob("*/*/status.json"))


@pytest.mark.parametrize("multirun", [[], ["-m"]])
def test_an_outputs_folder_that_cannot_be_written(multirun: list[str], invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = invoke(*multirun, outputs="file/outputs")
    err = " ".join(err.split())
    assert status == 2
    assert "cannot be written" in err
    assert "paths.outputs=" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("argv", [[], ["plan=true"], ["-m", "seed=0,1"]])
@pytest.mark.parametrize(
    ("rank", "expected"), [("0", "MASTER_ADDR is the name of a machine"), ("5", "RANK is less than WORLD_SIZE")]
)
def test_variables_that_are_no_place_among_ranks(
    argv: list[str], rank: str, expected: str, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    status, _, err = invoke(*argv)
    assert status == 2
    assert expected in " ".join(err.split())
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_an_outputs_folder_that_is_a_link_to_nothing(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    status, _, err = invoke(outputs="link")
    assert status == 2
    assert "cannot be written" in " ".join(err.split())
    assert "Traceback" not in err
