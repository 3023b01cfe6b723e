"""The commands: `hldm train`, `evaluate`, `generate`, `compare`, `curvature`, `runs`, `convert`, `export` and `worker`.

Each is a module with a `main` that takes the arguments after its name. None imports torch before it has to.
"""

import sys
from importlib import import_module

from hldm import __version__, console
from hldm.errors import UserError

COMMANDS = {
    "train": "train and judge one run, or a grid of them",
    "evaluate": "recompute every metric of finished runs from their weights",
    "generate": "draw samples from a trained run",
    "compare": "compare the runs of a study: table, verdict, a page for the browser",
    "curvature": "say what curvature the latents of a trained run tell",
    "runs": "list the runs of a study; cancel, retry, clean up, upload them",
    "convert": "weights of others into a folder that settings can name",
    "export": "a trained run as a folder for others: for diffusers, or with a model card",
    "worker": "bring one run directory to its end, as the launchers do",
}
"""Name → what it does, for people."""


def main(argv: list[str]) -> int | None:
    """Answer `hldm COMMAND …`."""
    name = argv[0] if argv else "--help"
    if name in ("-h", "--help", "help"):
        rows = [f"  {command:10} {what}" for command, what in COMMANDS.items()]
        print("\n".join(["Usage: hldm COMMAND [--help] …", "", *rows]))
        return 0
    if name == "--version":
        print(__version__)
        return 0
    if name not in COMMANDS:
        guess = console.closest(name, COMMANDS)
        hint = f" Did you mean {guess}?" if guess else ""
        raise UserError(
            f"{name} is not a command.{hint} Commands: {', '.join(COMMANDS)}. Type for example hldm train --help."
        )
    status: int | None = import_module(f"hldm.commands.{name}").main(argv[1:])
    return status


def main_from_shell() -> int:
    """The console script `hldm`."""
    return console.run(lambda: main(sys.argv[1:]))
