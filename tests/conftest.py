"""The command line in this process, with a fake pipeline: a call takes under a second."""

import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

from hldm import console, machine
from hldm.commands import train
from hldm.study import grid, job

os.environ["OMP_NUM_THREADS"] = "1"  # here and in processes that tests start: tests run side by side
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts tests in the background ignores it

LONGEST = [
    "test_slurm_jobs.py",
    "test_readme.py",
    "test_shapes.py",
    "test_ranks.py",
    "test_vectors.py",
    "test_docs.py",
    "test_run.py",
    "test_codebooks.py",
    "test_examples.py",
]
"""Files that are begun first, so that at the end no process waits for another that has just begun one of them."""

settings.register_profile("numerics", max_examples=60, deadline=None, derandomize=True)
settings.register_profile("shapes", settings.get_profile("numerics"), max_examples=5)
settings.load_profile("numerics")

FAKE = Path(__file__).with_name("fake_pipeline.py")

Invoke = Callable[..., tuple[int, str, str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: position for position, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(autouse=True, scope="session")
def _letters_are_cut_out_once() -> Iterator[None]:
    """A PDF holds the letters that it shows: to cut them out of a font takes .7 s, a tenth of a tiny run."""
    from matplotlib.backends import _backend_pdf_ps as fonts

    subset, as_file = fonts.get_glyphs_subset, fonts.font_as_file

    @cache
    def cut(file: Any, glyphs: tuple[Any, ...]) -> SimpleNamespace:
        with subset(file, set(glyphs)) as kept:
            return SimpleNamespace(font=as_file(kept.font).getvalue(), glyph_index_map=kept.glyph_index_map)

    def once(file: Any, glyphs: Any) -> Any:
        return nullcontext(cut(file, tuple(sorted(glyphs))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fonts, "get_glyphs_subset", once)
        patch.setattr(fonts, "font_as_file", BytesIO)
        yield


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Invoke:
    """`invoke("seed=3")` → exit status, stdout, stderr, in a working directory of its own with outputs/ in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "")  # so that what a run sets is undone
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.setattr(job, "WORKER", ("-P", str(FAKE)))
    monkeypatch.setitem(sys.modules, "hldm.pipeline", SimpleNamespace(run=runpy.run_path(str(FAKE))["run"]))
    for module in (machine, grid):
        monkeypatch.setattr(module, "cores", lambda: 2)
    monkeypatch.setattr(machine, "visible_gpus", lambda: ())

    def call(*argv: str, outputs: str = "outputs") -> tuple[int, str, str]:
        where = [f"paths.outputs={outputs}"] if outputs else []
        status = console.run(lambda: train.main([*argv, *where]))
        out, err = capfd.readouterr()
        return status, out, err

    return call
