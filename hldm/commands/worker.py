"""`hldm worker DIRECTORY` brings one run directory to its end. Launchers start it; the directory is all it needs."""

import signal
from pathlib import Path

from hldm.errors import UserError
from hldm.run.parent import stop_without_parent

USAGE = "Usage: hldm worker DIRECTORY, a run directory with a config.yaml: outputs/<study>/<run>."


def main(argv: list[str]) -> None:
    """Train and evaluate the run of which config.yaml lies in the directory."""
    if argv and argv[0] in ("-h", "--help"):
        print(USAGE)
        return
    if len(argv) != 1 or argv[0].startswith("-"):
        raise UserError(USAGE)
    # a launcher stops its runs by SIGINT, also where its own shell started it in the background, ignoring that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stop_without_parent()
    from hldm.pipeline import run

    run(Path(argv[0]))
