"""A trained run → a folder for others.

    hldm export run=outputs/main/<run id> out=bedrooms

A Euclidean run without labels whose first stage diffusers has becomes a pipeline of diffusers, in safetensors:
LDMPipeline.from_pretrained("bedrooms") samples from it. Of any other run the folder has config.yaml, model.safetensors
and what the model has to know of its data set; the command says why. In Python, without the data set:

    from hldm.pipeline.pretrained import HLDM
    model = HLDM.from_pretrained("bedrooms")
    images = model.sample(16, seed=0)

Both have a model card, README.md. No path of this machine is in the folder.

    hldm export run=<run directory> out=<new folder>
"""

from hldm import console
from hldm.commands.convert import empty_folder
from hldm.errors import UserError
from hldm.files import whole_folder
from hldm.run.directory import RunDirectory


def main(argv: list[str]) -> None:
    """Export one run, and say what it became."""
    arguments = console.key_values(argv, {"run": str, "out": empty_folder}, usage=__doc__, required=("run", "out"))
    runs = RunDirectory.find(arguments["run"])
    if len(runs) != 1:
        raise UserError(
            f"run={arguments['run']} names {len(runs) or 'no'} runs, and one is needed: a folder with a config.yaml, "
            "outputs/<study>/<run id>."
        )
    directory, out = runs[0], arguments["out"]
    config = directory.config
    directory.check_weights()
    # torch only now: a wrong argument is answered at once
    import torch

    from hldm.pipeline.build import build_dataset, load_model
    from hldm.pipeline.export import export

    with whole_folder(out) as folder:
        dataset = build_dataset(config)
        model = load_model(config, dataset, directory.path, torch.device("cpu"))
        report = export(directory, model, dataset, folder)
    print(console.paragraphs("\n".join(report)))
    print(out)
