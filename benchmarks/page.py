"""How large the page of many runs is, how long it takes to make, and how long a browser takes to show it.

    python benchmarks/page.py                500 made-up runs, about a minute
    python benchmarks/page.py --runs 60      fewer
    python benchmarks/page.py --keep FOLDER  the study stays there, to be looked at

`benchmarks/screenshots.py` shows what a page looks like.
Runs are those of tests/study/made_runs.py: curves, 199 steps of two stages, a grid of samples and 400 latents each.
Without Chromium or Chrome the last row is left out.
"""

import argparse
import platform
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the tests of this checkout

from hldm.run.directory import RunDirectory
from hldm.study.page import page
from hldm.study.rows import rows_of_runs
from hldm.study.whole import Study
from tests.study.browser import Browser, browser_command
from tests.study.made_runs import dressed, made


def study(folder: Path, runs: int) -> Path:
    """At least so many runs of two geometries, five seeds each, one in a hundred of which failed."""
    curvatures = ",".join(f"{0.01 * (i + 1):.2f}" for i in range(max(1, -(-runs // 5) - 1)))
    typed = f"geometry=euclidean,poincare curvature={curvatures} seed=0,1,2,3,4"
    plan = made(folder, typed, lambda point: None if hash(point.run.path.name) % 100 == 0 else dressed(point))
    return plan[0].config.study_folder


def seconds() -> tuple[float, float]:
    """On the clock, and of this process's processor."""
    return time.perf_counter(), time.process_time()


def spent(start: tuple[float, float], end: tuple[float, float]) -> str:
    """Between the two, as the table has it."""
    clock, processor = (after - before for before, after in zip(start, end, strict=True))
    return f"{clock:.1f} s, {processor:.1f} s of a processor"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = study(arguments.keep or Path(temporary), arguments.runs)
        start = seconds()
        rows, _ = rows_of_runs(RunDirectory.find(str(folder)))
        read = seconds()
        whole = Study.of(folder, rows)
        compared = seconds()
        file = folder / "comparison.html"
        file.write_text(page(whole), encoding="utf-8")
        written = seconds()
        machine = platform.processor() or platform.machine()
        print(f"{len(rows)} runs, {len(whole.cells)} cells; {machine}, {date.today()}\n")
        print("| | |\n|---|---|")
        print(f"| reading the runs | {spent(start, read)} |")
        print(f"| comparing them | {spent(read, compared)} |")
        print(f"| making the page | {spent(compared, written)} |")
        print(f"| size of the page | {file.stat().st_size / 1e6:.1f} MB |")
        if browser_command():
            with Browser() as browser:
                before = browser.processor_seconds()
                browser.open(file)
                drawn = browser.milliseconds() / 1000
                computed = browser.processor_seconds() - before
                print(f"| until it is drawn in {browser.version} | {drawn:.1f} s, {computed:.1f} s of processors |")


if __name__ == "__main__":
    main()
