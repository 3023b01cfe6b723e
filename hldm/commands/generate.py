"""Draw samples from a trained run, and see what its latent space is like.

    hldm generate run=outputs/main/<run id> n=2000 seed=0 out=samples.npz
    hldm generate run=outputs/main/<run id> n=100 out=grid.png
    hldm generate run=outputs/main/<run id> n=16 label=7 out=sevens.png
    hldm generate run=outputs/main/<run id> prompt="a handwritten seven" n=16 seed=0

An npz has the field's usual form: arr_0 images uint8 (N, H, W, C), or vectors float32 (N, D), and arr_1 labels int64
(N,) where labels decide what is drawn. Classes are balanced, unless label=… asks for one or prompt=… says what to draw
(for conditioning=text). A run that was trained without labels is sampled until its digit classifier has found that many
of the class. The same seed gives the same images on the same machine.

How samples are drawn, also with what follows below:

    guidance=1.5        scale of guidance, in place of the run's; 1 for none
    steps=8             steps of the sampler, in place of the run's

What is shown of the latent space, one at a time, in radius.png, between.png, mean_of.png and neighbours.png:

    radius=0,0.5,1.5    samples moved along geodesics to so many times their distance from the origin, a row each
    around=7            … from the Fréchet mean of class 7 in place of the origin, with radius=
    between=3,8         the geodesic from sample 3 to sample 8, above the straight line; samples are counted from 0, as
                        n= and seed= draw them, and classes take turns: of ten digits, samples 3 and 13 are threes
    mean_of=7           the Fréchet mean of class 7 decoded, beside its n nearest and n farthest members
    neighbours=3        each sample above the 3 training images nearest in pixels, and the 3 nearest in latents

    hldm generate run=<run directory> [n=100] [seed=0] [label=<class>|prompt=<text>] [out=<file>.png|.npz] …
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hldm import console
from hldm.commands.controls import KEYS, SHOWS, check_class, check_controls, check_neighbours, usual_number
from hldm.config.conditioning import TextConditioning
from hldm.config.schema import RunConfig
from hldm.errors import UserError
from hldm.machine import Allotment
from hldm.paths import expanded
from hldm.resources import cores
from hldm.run.directory import RunDirectory

if TYPE_CHECKING:
    from torch import Tensor

    from hldm.data import Dataset
    from hldm.model import LatentModel
    from hldm.pipeline.latent_views import View
    from hldm.pipeline.samples import Drawn


MOST = 10**6
"""Samples of one command: they are kept in memory until they are written."""


def output_file(text: str) -> Path:
    """A .png or .npz file in a folder that exists."""
    path = expanded(text)
    if path.suffix not in (".png", ".npz"):
        raise ValueError("the output is a grid (out=grid.png) or arrays (out=samples.npz).")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}. Make it first, or choose another one.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder. Name a file, such as out={path / path.name}.")
    if not all(os.access(part, os.W_OK) for part in (path, path.parent) if part.exists()):
        raise ValueError(f"{path} cannot be written. Choose another folder, such as out=~/{path.name}.")
    return path


def usual_output(name: str) -> Path:
    """The file in this folder that is written where no out= says otherwise."""
    try:
        return output_file(name)
    except ValueError as error:
        raise UserError(str(error)) from error


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
            **KEYS,
        },
        usage=__doc__,
        required=("run",),
    )
    typed = {key: text for key, _, text in (argument.partition("=") for argument in argv)}
    runs = RunDirectory.find(arguments["run"])
    if len(runs) != 1:
        raise UserError(
            f"run={arguments['run']} names {len(runs) or 'no'} runs, and one is needed: a folder with a config.yaml, "
            "outputs/<study>/<run id>."
        )
    directory = runs[0]
    config, name = directory.config, directory.path.name
    shows = next((key for key in SHOWS if key in arguments), None)
    n = arguments.setdefault("n", usual_number(shows))
    if n == 0:
        raise UserError("n=0 asks for no samples. Give the number of images to draw, such as n=100.")
    if n > MOST:
        raise UserError(
            f"n={n} is more than are drawn at a time. Type n={MOST} at most, and others with another seed=."
        )
    check_request(config, name, arguments.get("label"), arguments.get("prompt"))
    check_controls(config, name, arguments, typed)
    out = arguments.get("out") or usual_output(f"{shows or 'samples'}.png")
    if not config.dataset.has_pictures and out.suffix == ".png":
        raise UserError(f"{name} was trained on vectors, which make no picture. Type out={out.stem}.npz.")
    directory.check_weights()
    threads = cores() if config.hardware.threads == "auto" else config.hardware.threads
    os.environ.update(Allotment(1, threads).environment(0))
    # torch only now: a wrong argument is answered at once
    from hldm.pipeline.build import build_dataset, device_to_look_with, load_model
    from hldm.pipeline.latent_views import class_mean, save_view
    from hldm.pipeline.pictures import MOST_COLUMNS, save_grid, save_npz

    dataset = build_dataset(config)
    for key in ("label", "around", "mean_of"):
        check_class(key, arguments.get(key), dataset.name, dataset.classes)
    check_neighbours(arguments.get("neighbours"), dataset.name, len(dataset.train))
    model = load_model(config, dataset, directory.path, device_to_look_with(config.hardware))
    if shows == "mean_of":
        view = class_mean(model, dataset, arguments["mean_of"], n if "n" in typed else None)
        save_view(out, view, f"{name}. {view.caption}")
        print(console.paragraphs(f"{view.caption}\n{out}"))
        return
    drawn, labels, source = draw_samples(config, model, dataset, arguments)
    if shows is not None:
        view = shown(config, model, dataset, drawn, labels, arguments)
        save_view(out, view, f"{name}. {view.caption}")
        print(console.paragraphs(view.caption))
    elif out.suffix == ".npz":
        save_npz(out, drawn.images, labels)
    else:
        columns = min(dataset.classes, MOST_COLUMNS)
        take_turns = labels is not None and "label" not in arguments and columns == dataset.classes
        save_grid(out, drawn.images, columns, column_names=dataset.class_names if take_turns else ())
    print(f"{n} {'samples' if shows else 'images'} of {name}{source}: {out}")


def draw_samples(
    config: RunConfig, model: "LatentModel", dataset: "Dataset", arguments: Mapping[str, Any]
) -> tuple["Drawn", "Tensor | None", str]:
    """n samples as they were asked for, their labels where labels decided about them, and where they come from."""
    from hldm.pipeline.build import build
    from hldm.pipeline.curves import Setting, drawn_with
    from hldm.pipeline.samples import balanced_labels, draw, samples_taken_for

    n, seed, batch_size = arguments["n"], arguments.get("seed", 0), config.metrics.sampling_batch_size
    label, prompt, guidance = (arguments.get(key) for key in ("label", "prompt", "guidance"))
    labels = balanced_labels(n, dataset.classes)
    if label is not None:
        labels = labels * 0 + label
    decide = label is not None or (model.uses_labels and prompt is None and guidance != 0)
    said = labels if decide else None
    setting = Setting(guidance=guidance, steps=arguments.get("steps"))
    with drawn_with(setting, model, config):
        if label is None or model.uses_labels:
            how = f", {setting.words}" if setting.words else ""
            subjects = labels if prompt is None else [prompt] * n
            return draw(model, subjects, seed=seed, batch_size=batch_size, how=how), said, how
        assert config.metrics.classifier is not None  # see check_request
        classifier = build(config.metrics.classifier).to(model.device)
        some = min(batch_size, dataset.classes * n)
        drawn, total = samples_taken_for(label, n, model, classifier, seed=seed, batch_size=some)
        return drawn, said, f", those of {total} that {classifier.name} takes for class {label}"


def shown(
    config: RunConfig,
    model: "LatentModel",
    dataset: "Dataset",
    drawn: "Drawn",
    labels: "Tensor | None",
    arguments: Mapping[str, Any],
) -> "View":
    """The view that radius=, between= or neighbours= asks for."""
    from hldm.pipeline.latent_views import beside_training, between, with_radius

    if "radius" in arguments:
        batch_size = config.metrics.sampling_batch_size
        around = arguments.get("around")
        return with_radius(model, dataset, drawn, labels, arguments["radius"], around, batch_size)
    if "between" in arguments:
        return between(model, dataset, drawn, labels, *arguments["between"])
    return beside_training(model, dataset, drawn, labels, arguments["neighbours"])
