"""What runs take, counted for a plan: configurations as JSON on stdin → counts as JSON on stdout.

`python -m hldm.pipeline.counts` is a process of its own, since a plan is made without torch. Networks are built with
random weights, and sent through without numbers; nothing is trained, and no image is looked at but for its shape.
"""

import json
import sys
from dataclasses import asdict
from typing import Any

from hldm.config.options import load_extensions
from hldm.config.schema import RunConfig
from hldm.console import run
from hldm.pipeline.build import build_dataset, build_model
from hldm.training.counts import count
from hldm.training.latents import form_of


def counted(config: RunConfig) -> dict[str, Any]:
    """`hldm.training.counts.Counts` of a run, with "images", of training, and "latent_bytes", of all their latents."""
    dataset = build_dataset(config)
    model = build_model(config, dataset).eval()
    form = form_of(model, dataset.train, config.training.latent_precision)
    return {**asdict(count(model)), "images": form.rows, "latent_bytes": form.bytes}


def main() -> None:
    """Answer."""
    load_extensions()
    configs = [RunConfig.model_validate(data) for data in json.load(sys.stdin)]
    print(json.dumps([counted(config) for config in configs]))


if __name__ == "__main__":
    sys.exit(run(main))
