"""Draw samples from a trained run.

    hldm generate run=outputs/main/<run id> n=2000 seed=0 out=samples.npz
    hldm generate run=outputs/main/<run id> n=100 out=grid.png
    hldm generate run=outputs/main/<run id> n=16 label=7 out=sevens.png
    hldm generate run=outputs/main/<run id> prompt="a handwritten seven" n=16 seed=0

An npz has the field's usual form: arr_0 images uint8 (N, H, W, C), or vectors float32 (N, D), and arr_1 labels int64
(N,), which a prompt leaves out. Classes are balanced, unless label=… asks for one or prompt=… says what to draw (for
conditioning=text). A run that was trained without labels is sampled until its digit classifier has found that many of
the class. The same seed gives the same images on the same machine.

    hldm generate run=<run directory> [n=100] [seed=0] [label=<class>|prompt=<text>] [out=samples.png|.npz]
"""

import os
from pathlib import Path

from hldm import console
from hldm.config.conditioning import TextConditioning
from hldm.config.schema import RunConfig
from hldm.errors import UserError
from hldm.machine import Allotment, cores
from hldm.paths import expanded
from hldm.run.directory import RunDirectory


def output_file(text: str) -> Path:
    """A .png or .npz file in a folder that exists."""
    path = expanded(text)
    if path.suffix not in (".png", ".npz"):
        raise ValueError("the output is a grid (out=grid.png) or arrays (out=samples.npz).")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}. Make it first, or choose another one.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"{path} cannot be written. Choose another folder, such as out=~/{path.name}.")
    return path


def check_request(config: RunConfig, name: str, label: int | None, prompt: str | None) -> None:
    """Raise a UserError where a label or a prompt means nothing to the run `name`."""
    conditioning = config.conditioning
    reads_text = config.has_diffusion and conditioning.reads_text
    takes_labels = config.has_diffusion and conditioning.takes_labels
    if prompt is not None and not reads_text:
        instead = "Type label=… with the number of a class" if takes_labels else "Leave prompt= out"
        raise UserError(
            f'prompt="{prompt}" cannot steer {name}: it was trained without text. {instead}, or train a run that reads '
            "text: python train.py conditioning=text."
        )
    if label is not None and isinstance(conditioning, TextConditioning) and reads_text:
        raise UserError(
            f"label={label} cannot steer {name}: it was trained with text. "
            f'Type prompt="{conditioning.templates[0].format("…")}" with the class in words.'
        )
    if label is not None and not takes_labels and config.metrics.classifier is None:
        raise UserError(
            f"label={label} cannot steer {name}: it was trained without labels, and has no classifier to find them. "
            "Leave label= out."
        )


def main(argv: list[str]) -> None:
    """Draw what the arguments ask for, and write it."""
    arguments = console.key_values(
        argv,
        {
            "run": str,
            "n": console.whole,
            "seed": console.whole,
            "label": console.whole,
            "prompt": str,
            "out": output_file,
        },
        usage=__doc__,
        required=("run",),
    )
    runs = RunDirectory.find(arguments["run"])
    if len(runs) != 1:
        raise UserError(
            f"run={arguments['run']} names {len(runs) or 'no'} runs, and one is needed: a folder with a config.yaml, "
            "outputs/<study>/<run id>."
        )
    directory = runs[0]
    config = directory.config
    n, out = arguments.get("n", 100), arguments.get("out") or output_file("samples.png")
    if n == 0:
        raise UserError("n=0 asks for no samples. Give the number of images to draw, such as n=100.")
    label, prompt = arguments.get("label"), arguments.get("prompt")
    check_request(config, directory.path.name, label, prompt)
    threads = cores() if config.hardware.threads == "auto" else config.hardware.threads
    os.environ.update(Allotment(1, threads).environment(0))
    # torch only now: a wrong argument is answered at once
    from hldm.pipeline.build import build, build_dataset, choose_device, load_model
    from hldm.pipeline.pictures import MOST_COLUMNS, save_grid, save_npz
    from hldm.pipeline.samples import balanced_labels, sample_images, samples_taken_for

    dataset = build_dataset(config)
    labels = balanced_labels(n, dataset.classes)
    if label is not None:
        if label >= dataset.classes:
            raise UserError(f"label={label} is not a class of {dataset.name}: it has 0 to {dataset.classes - 1}.")
        labels = labels * 0 + label
    model = load_model(config, dataset, directory.path, choose_device(config.hardware))
    if not dataset.has_pictures and out.suffix == ".png":
        raise UserError(f"{dataset.name} has vectors, which make no picture. Type out=samples.npz.")
    batch_size = config.metrics.sampling_batch_size
    subjects = labels if prompt is None else [prompt] * n
    seed = arguments.get("seed", 0)
    if label is None or model.uses_labels:
        images, source = sample_images(model, subjects, seed=seed, batch_size=batch_size), ""
    else:
        assert config.metrics.classifier is not None  # see check_request
        classifier = build(config.metrics.classifier).to(model.device)
        some = min(batch_size, dataset.classes * n)
        images, total = samples_taken_for(label, n, model, classifier, seed=seed, batch_size=some)
        source = f", those of {total} that {classifier.name} takes for class {label}"
    if out.suffix == ".npz":
        save_npz(out, images, labels if prompt is None else None)
    else:
        save_grid(out, images, columns=min(dataset.classes, MOST_COLUMNS))
    print(f"{n} images of {directory.path.name}{source}: {out}")
