"""The worker: `python -m hldm.pipeline DIRECTORY` brings one run directory to its end."""

import sys
from pathlib import Path

from hldm import console


def main() -> None:
    from hldm.pipeline.run import run

    run(Path(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(console.run(main))
