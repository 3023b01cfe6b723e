"""What the latents of a trained run say about the curvature c of their space.

    hldm curvature run=outputs/main/<run id>

Prints the estimate of c from Gromov's δ and why it is none, how far curvature reaches, and the likelihood of c on
validation images with the encoder as it is: which c the latents tell, or that they tell none. Writes
curvature_profile.json, .png and .pdf beside the run.

    hldm curvature run=<run directory> [images=2000]
"""

import os

from hldm import console
from hldm.errors import UserError
from hldm.machine import Allotment
from hldm.resources import cores
from hldm.run.directory import RunDirectory

FEWEST = 100
"""Images below which half of them are too few for the error of a mean."""


def main(argv: list[str]) -> None:
    """Look at one run, print what is found, and write it."""
    arguments = console.key_values(argv, {"run": str, "images": console.whole}, usage=__doc__, required=("run",))
    runs = RunDirectory.find(arguments["run"])
    if len(runs) != 1:
        raise UserError(
            f"run={arguments['run']} names {len(runs) or 'no'} runs, and one is needed: a folder with a config.yaml, "
            "outputs/<study>/<run id>."
        )
    directory, images = runs[0], arguments.get("images", 2000)
    config = directory.config
    if images < FEWEST:
        raise UserError(f"images={images} is too few to tell anything. Type images={FEWEST} at least, such as 2000.")
    if not os.access(directory.path, os.W_OK):
        raise UserError(f"{directory.path} cannot be written, and the picture goes there. Copy the run to your folder.")
    directory.check_weights()
    threads = cores() if config.hardware.threads == "auto" else config.hardware.threads
    os.environ.update(Allotment(1, threads).environment(0))
    # torch only now: a wrong argument is answered at once
    from hldm.pipeline.build import build_dataset, device_to_look_with, load_model
    from hldm.pipeline.curvature import curvature_report, write_report

    dataset = build_dataset(config)
    model = load_model(config, dataset, directory.path, device_to_look_with(config.hardware))
    report = curvature_report(model, dataset, config.metrics, images=images, seed=config.seed)
    report = {"run": directory.path.name, **report}
    used = report["images"]
    print(f"{directory.path.name}: c = {', '.join(f'{c:.3g}' for c in report['curvatures'])}")
    print(f"{used['number']} {used['split']} images, every second one to fit laws, the others to judge them\n")
    print(console.paragraphs("\n".join(f"- {paragraph}" for paragraph in report["words"])))
    print()
    for file in write_report(directory.path, report):
        print(file)
