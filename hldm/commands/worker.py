"""`hldm worker DIRECTORY` brings one run directory to its end. Launchers start it; the directory is all it needs.

Its exit status is one of `hldm.run.exits`.
"""

import signal
import sys
from pathlib import Path

from hldm import console
from hldm.commands.ranks import GRACE, run_ranks
from hldm.errors import BusyError, Stopped, UserError
from hldm.run import exits, stop
from hldm.run.directory import RunDirectory
from hldm.run.output import logged
from hldm.run.parent import PATIENCE, stop_without_parent
from hldm.run.ranks import place

USAGE = (
    "Usage: hldm worker DIRECTORY, a run directory with a config.yaml: outputs/<study>/<run>; or, with "
    "part=first_stage after it, outputs/first_stages/<identity>."
)


def main(argv: list[str]) -> int:
    """Train and evaluate the run of which config.yaml lies in the directory, or train a first stage for several."""
    if argv and argv[0] in ("-h", "--help"):
        print(USAGE)
        return exits.FINISHED
    if not argv or argv[0].startswith("-") or argv[1:] not in ([], ["part=first_stage"]):
        raise UserError(USAGE)
    # a launcher stops its runs by SIGINT, also where its own shell started it in the background, ignoring that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stop_without_parent(patience=PATIENCE if place().size == 1 else GRACE)
    path, is_first_stage = Path(argv[0]), bool(argv[1:])

    def logged_work() -> int:
        with logged(path):
            return work(path, is_first_stage=is_first_stage)

    with stop.listening():
        status = console.run(logged_work)
    return exits.FAILED if status == console.REFUSED else status


def work(path: Path, *, is_first_stage: bool = False) -> int:
    """Train and evaluate, or train a first stage, and the exit status of an ending that is no failure.

    Raises:
        UserError: the run failed.
    """
    directory = RunDirectory(path)
    if place().size == 1 and (size := directory.config.hardware.ranks) > 1 and directory.finished is None:
        return run_ranks(directory, size, ["part=first_stage"] if is_first_stage else [])
    try:
        # torch is imported here, for seconds in which a signal may come already
        from hldm.pipeline import run, run_first_stage

        stop.check()
        (run_first_stage if is_first_stage else run)(path)
    except Stopped:
        print(console.paragraphs(stop.GO_ON), file=sys.stderr)
        return exits.STOPPED
    except BusyError as error:
        print(console.paragraphs(str(error)), file=sys.stderr)
        return exits.BUSY
    return exits.FINISHED
