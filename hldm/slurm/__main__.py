"""`python -P -m hldm.slurm begin|end DIRECTORY FOLDER PART …`, called by the script of a job."""

import sys
from pathlib import Path

from hldm import console
from hldm.run.directory import RunDirectory
from hldm.slurm.work import Job


def main(argv: list[str]) -> int:
    """What `Job.begin` or `Job.end` answers."""
    which, path, folder, part, *rest = argv
    job = Job(RunDirectory(Path(path)), Path(folder), part)
    if which == "begin":
        return job.begin()
    code, facts = rest
    return job.end(int(code), facts)


if __name__ == "__main__":
    sys.exit(console.run(lambda: main(sys.argv[1:])))
