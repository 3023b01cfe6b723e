"""The LSUN experiment in miniature: both stages with all their losses, on an LMDB, then given to diffusers."""

import hashlib
from pathlib import Path

import diffusers
import lmdb
import torch
from torchvision.models import vgg16

from hldm.config.compose import compose
from hldm.config.options import Options
from hldm.pipeline import run
from hldm.pipeline.build import build_dataset, load_model
from hldm.pipeline.export import export
from hldm.run.directory import RunDirectory
from hldm.run.identity import run_identity
from hldm.run.requirements import refuse
from tests.odd_pictures import encoded, gradient

SMALL = [
    "tracking=none",
    "hardware=cpu",
    "hardware.threads=1",
    "dataset.side=32",
    "dataset.validation_images=8",
    "autoencoder.block_channels=[16,16,16]",
    "autoencoder.groups=8",
    "autoencoder.layers_per_block=1",
    "autoencoder.codebook_size=16",
    "denoiser.block_channels=[16,16,16,16]",
    "denoiser.head_channels=16",
    "denoiser.groups=8",
    "denoiser.layers_per_block=1",
    "training.first_stage.steps=2",
    "training.first_stage.batch_size=4",
    "training.diffusion.steps=2",
    "training.diffusion.batch_size=4",
    "training.microbatch=2",
    "training.validate_every=null",
    "hardware.recompute=true",
    "diffusion.sampler.steps=2",
    "metrics.samples=12",
    "metrics.validation_samples=12",
    "metrics.first_stage_images=6",
    "metrics.hierarchy.draws=0",
]


def lsun(folder: Path, name: str, count: int, start: int) -> None:
    """An LMDB in LSUN's form."""
    (folder / name).mkdir(parents=True)
    with lmdb.open(str(folder / name), map_size=2**24) as opened, opened.begin(write=True) as transaction:
        for number in range(start, start + count):
            picture = encoded(gradient(40 + number, 33), "WEBP")
            transaction.put(hashlib.sha1(str(number).encode()).hexdigest().encode(), picture)


def test_it_trains_is_judged_and_given_to_diffusers(tmp_path: Path) -> None:
    lsun(tmp_path / "data", "bedroom_train_lmdb", 40, 0)
    lsun(tmp_path / "data", "bedroom_val_lmdb", 12, 100)
    with torch.device("meta"):
        shapes = {f"features.{name}": x.shape for name, x in vgg16().features.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    drawn = {name: 0.03 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    torch.save(drawn, vgg := tmp_path / "vgg.pth")
    words = ["experiment=lsun_bedrooms-ldm-vq-4", f"dataset.path={tmp_path / 'data'}", f"paths.outputs={tmp_path}"]
    config = compose([*words, f"training.first_stage.perceptual_backbone={vgg}", *SMALL])
    refuse([config], Options())
    directory = RunDirectory.create(tmp_path / config.study / run_identity(config).name, config)
    metrics = run(directory.path)["metrics"]
    assert metrics["reconstruction_psnr"] > 0
    dataset = build_dataset(config)
    model = load_model(config, dataset, directory.path, torch.device("cpu"))
    assert model.latent_scale == 1
    assert export(directory, model, dataset, tmp_path / "out")[0].startswith("A pipeline of diffusers")
    pipeline = diffusers.LDMPipeline.from_pretrained(tmp_path / "out", local_files_only=True)
    assert pipeline.unet.config.sample_size == 8
    assert "reconstruction_psnr" in (tmp_path / "out" / "README.md").read_text()
