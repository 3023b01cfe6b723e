"""The worker: `python -m hldm.pipeline DIRECTORY` brings one run directory to its end."""

import signal
import sys
from pathlib import Path

from hldm import console


def main() -> None:
    # the launcher stops its runs by SIGINT, also where its own shell started it in the background, ignoring that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from hldm.pipeline.run import run

    run(Path(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(console.run(main))
