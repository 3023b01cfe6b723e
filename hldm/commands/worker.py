"""`hldm worker DIRECTORY` brings one run directory to its end. Launchers start it; the directory is all it needs."""

import signal
from pathlib import Path

from hldm.errors import UserError

USAGE = (
    "Usage: hldm worker DIRECTORY, a run directory with a config.yaml: outputs/<study>/<run>; or, with "
    "part=first_stage after it, outputs/first_stages/<identity>."
)


def main(argv: list[str]) -> None:
    """Train and evaluate the run of which config.yaml lies in the directory, or train a first stage for several."""
    if argv and argv[0] in ("-h", "--help"):
        print(USAGE)
        return
    if not argv or argv[0].startswith("-") or argv[1:] not in ([], ["part=first_stage"]):
        raise UserError(USAGE)
    # a launcher stops its runs by SIGINT, also where its own shell started it in the background, ignoring that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from hldm.pipeline import run, run_first_stage

    work = run_first_stage if argv[1:] else run
    work(Path(argv[0]))
