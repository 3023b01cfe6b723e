"""The page in a browser: what is drawn, clicks, filters, sorting, the keyboard, a phone, paper, downloads."""

import csv
import io
import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hldm.drawing import extent
from hldm.study.page import page
from hldm.study.plan import Point
from hldm.study.rows import rows_of_plan
from hldm.study.whole import Study
from tests.speed import allowed
from tests.study.browser import Browser, browser_command
from tests.study.made_runs import dressed, made

pytestmark = pytest.mark.skipif(browser_command() is None, reason="there is neither Chromium nor Chrome here")

EVIL = "</script><img src=x onerror=document.title='broken'>"


def results(point: Point) -> Mapping[str, Any] | None:
    return None if point.config.seed == 2 and point.config.geometry.name == "hybrid" else dressed(point)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    plan = made(folder, "geometry=euclidean,poincare,hybrid curvature=0.1,1 seed=0,1,2", results)
    failed = next(point for point in plan if point.state == "failed")
    failed.run.update_status(state="failed", error=EVIL)
    study = Study.of(plan[0].config.study_folder, rows_of_plan(plan))
    (folder / "comparison.html").write_text(page(study), encoding="utf-8")
    return folder / "comparison.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture
def shown(browser: Browser, file: Path) -> Iterator[Browser]:
    browser.errors.clear()
    browser.requests.clear()
    browser.resize(1280, 900)
    browser.open(file)
    yield browser
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [file.as_uri()]


def texts(browser: Browser, selector: str) -> list[str]:
    return browser.run(f"[...document.querySelectorAll({selector!r})].map(one => one.textContent)")


def count(browser: Browser, selector: str) -> int:
    return browser.run(f"document.querySelectorAll({selector!r}).length")


def test_everything_is_drawn_and_nothing_is_loaded(shown: Browser) -> None:
    sections = browser_sections = shown.run("[...document.querySelectorAll('section')].map(one => one.id)")
    assert browser_sections == [
        "verdict", "fairness", "unfinished", "matrix", "cells", "curves", "precision", "hierarchy", "training",
        "samples", "latents", "runs", "settings", "provenance", "download",
    ]  # fmt: skip
    assert texts(shown, "nav a")[:2] == ["Verdict", "How fairly"]
    assert len(texts(shown, "nav a")) == len(sections)
    assert "worse in FID, no guidance +0.383 ± 0.014" in " ".join(texts(shown, "#verdict li"))
    assert texts(shown, ".checks .no .facts") == [
        "13 finished, 2 failed",
        "0, 1, 2; hybrid c=0.1 lacks 2; hybrid c=1 lacks 2",
    ]
    assert count(shown, ".checks .yes") == 15
    assert texts(shown, ".matrix thead th") == ["geometry", "flat", "c = 0.1", "c = 1"]
    assert count(shown, "#cells tbody tr") == 5
    assert count(shown, "#curves g[data-name]") == 5
    assert count(shown, "#precision g[data-name]") == 5
    assert count(shown, "#training g[data-name]") == 13
    assert count(shown, "#samples img") == 13
    assert shown.run("[...document.images].every(one => one.complete && one.naturalWidth > 100)")
    assert count(shown, "#latents figure") == 8
    assert count(shown, "#runs tbody tr") == 15
    assert shown.run("document.documentElement.scrollWidth <= innerWidth")


def test_text_of_users_is_text(shown: Browser) -> None:
    assert EVIL in texts(shown, "#unfinished td")
    assert shown.run("document.title") == "main: comparison"
    assert count(shown, "img[src='x']") == 0


def test_filters_leave_what_they_say(shown: Browser) -> None:
    shown.click("#filter")
    shown.type("poincare c=1")
    shown.wait("document.querySelector('#count').textContent === '3 of 15 runs'")
    assert texts(shown, "#cells tbody td:first-child") == ["poincare c=1"]
    assert count(shown, "#runs tbody tr") == count(shown, "#samples img") == 3
    assert count(shown, "#curves g[data-name]") == 1
    shown.click(".filters button")
    assert texts(shown, "#count") == ["15 of 15 runs"]
    choose(shown, ".filters label:nth-of-type(2) select", "hybrid")
    assert texts(shown, "#cells tbody td:first-child") == ["hybrid c=0.1", "hybrid c=1"]
    choose(shown, ".filters label:nth-of-type(5) select", "failed")
    assert texts(shown, "#count") == ["2 of 15 runs"]
    assert "Nothing of this is left" in texts(shown, "#precision .body")[0]


def choose(browser: Browser, selector: str, value: str) -> None:
    browser.run(
        f"(() => {{ const one = document.querySelector({selector!r}); one.value = {value!r}; "
        "one.dispatchEvent(new Event('change')); })()"
    )


def test_tables_sort_with_mouse_and_keyboard(shown: Browser) -> None:
    def column() -> list[float]:
        return [float(text.replace("✘", "").split()[0]) for text in texts(shown, "#cells tbody td:nth-child(3)")]

    heading = "#cells th:nth-child(3)"
    assert texts(shown, heading) == ["FID, no guidance ↓"]
    shown.click(f"{heading} button")
    assert column() == sorted(column())
    assert shown.run(f"document.querySelector('{heading}').getAttribute('aria-sort')") == "ascending"
    shown.press("Enter")  # the keyboard is where it was
    assert shown.run(f"document.querySelector('{heading}').getAttribute('aria-sort')") == "descending"
    assert column() == sorted(column(), reverse=True)
    shown.click("#runs th:nth-child(6) button")
    shown.click("#runs th:nth-child(6) button")
    figures = texts(shown, "#runs tbody td:nth-child(6)")
    assert figures[-2:] == ["–", "–"]  # what is not known stays last
    assert [float(text) for text in figures[:-2]] == sorted((float(text) for text in figures[:-2]), reverse=True)


def test_the_matrix_shows_any_figure(shown: Browser) -> None:
    choose(shown, "#matrix label:nth-of-type(1) select", "fid_unguided")
    assert "✘ worse" in " ".join(texts(shown, ".matrix td"))
    choose(shown, "#matrix label:nth-of-type(2) select", "difference")
    assert "+0.383 ± 0.014" in " ".join(texts(shown, ".matrix td"))
    assert "0.833 ± 0.018" in " ".join(texts(shown, ".matrix td"))  # the baseline's own


def test_points_tell_their_numbers_to_mouse_and_keyboard(shown: Browser) -> None:
    shown.run("document.querySelector('#curves svg').focus()")
    shown.press("ArrowRight")
    first = texts(shown, "#tip")[0]
    assert re.match(r"euclidean\nguidance 1\nFID ↓ 0\.\d+ ± ", first)
    shown.press("ArrowRight")
    assert texts(shown, "#tip")[0] != first
    shown.press("Escape")
    assert texts(shown, "#tip") == [""]
    shown.hover("#latents figure:nth-child(2) svg", 0.5, 0.45)
    assert re.match(r"digit \d\n(components|distance from the origin) ", texts(shown, "#tip")[0])
    shown.hover("#latents h2")
    assert texts(shown, "#tip") == [""]


def test_a_disk_has_its_points_where_their_distance_says(shown: Browser) -> None:
    """At distance r the radius in the unit disk is tanh(√c r / 2)."""
    found = shown.run(
        "(() => { const one = data.disks.of.find(d => d.kind === 'disk' && d.curvature === 1);"
        "const box = disk(one, 1).querySelector('svg');"
        "const circle = Number(box.querySelector('circle.axis').getAttribute('r'));"
        "const d = box.querySelectorAll('path')[0].getAttribute('d');"
        "return [Math.hypot(one.points[0], one.points[1]), circle, d, one.labels[0]]; })()"
    )
    r, circle, d, label = found
    assert circle == 148
    assert label >= 0
    x, y = map(float, re.match(r"M(-?[\d.]+),(-?[\d.]+)", d).groups())  # type: ignore[union-attr]  # it is a path
    assert math.hypot(x - 160, y - 160) == pytest.approx(circle * math.tanh(r / 2), abs=6)  # a marker's corner


@pytest.mark.parametrize(
    ("values", "ends", "bounds"),
    [
        ([1.0, 2.0], [0.8, 2.2], [None, None]),
        ([330.0, 340.0], [-329.0, 1001.0], [0.0, None]),
        ([0.1, 0.3], [-0.1, 0.5], [0.0, 1.0]),
        ([0.0, 0.0], [0.0, 0.0], [0.0, 1.0]),
        ([5.0], [3.0, 7.0], [None, None]),
        ([5.0], [], [None, None]),
    ],
)
def test_axes_go_as_far_as_those_of_figures(
    shown: Browser, values: list[float], ends: list[float], bounds: list[float | None]
) -> None:
    least, most = bounds
    low, high, _ = extent(values, ends, (-math.inf if least is None else least, math.inf if most is None else most))
    drawn = f"scale(extent({values}, {ends}, {json.dumps(bounds)}), 0, 1)"
    assert [shown.run(f"{drawn}.at({end})") for end in (low, high)] == pytest.approx([0, 1])


def test_intervals_that_are_cut_are_said(shown: Browser) -> None:
    def drawn(low: float, high: float) -> tuple[list[float], str]:
        points = [{"x": x, "y": y, "low": low, "high": high, "text": ""} for x, y in ((1, 330), (2, 340))]
        series = [{"name": "one", "style": {"colour": "red", "marker": "circle"}, "points": points}]
        options = json.dumps({"label": "", "xLabel": "", "yLabel": "", "series": series, "bounds": [0, None]})
        shown.run(f"window.made = chart({options})")
        bars = shown.run("[...made.querySelectorAll('g path')].map(p => p.getAttribute('d')).filter(d => /V/.test(d))")
        return [float(y) for bar in bars for y in re.findall(r"[,V](-?[\d.]+)", bar)], shown.run("made.textContent")

    ends, text = drawn(-329, 1001)
    assert "cut" in text
    assert len(ends) == 4
    assert min(ends) > 0
    assert max(ends) < 320
    assert "cut" not in drawn(328, 342)[1]


def test_a_legend_shows_one_alone(shown: Browser) -> None:
    shown.click("#training .legend li:nth-child(2) button")
    assert count(shown, "#training g.faded") == 10
    shown.click("#training .legend li:nth-child(2) button")
    assert count(shown, "#training g.faded") == 0


def test_a_run_opens_and_escape_closes_it(shown: Browser) -> None:
    shown.click("#runs tbody tr:nth-child(1) button")
    assert "metrics, as in results.json" in texts(shown, "dialog")[0]
    assert "hldm train -m …" in texts(shown, "dialog")[0]
    shown.press("Escape")
    shown.wait("!document.querySelector('dialog')")


def test_the_keyboard_finds_everything(shown: Browser) -> None:
    shown.press("Tab")
    assert shown.run("document.activeElement.className") == "skip"
    shown.press("/", text="/")
    assert shown.run("document.activeElement.id") == "filter"
    names = shown.run(
        "[...document.querySelectorAll('a, button, select, input, svg[tabindex]')]"
        ".filter(one => !(one.textContent.trim() || one.labels?.length || one.getAttribute('aria-label'))).length"
    )
    assert names == 0
    focus = shown.run(
        "(() => { const one = document.querySelector('#hierarchy select'); one.focus(); one.selectedIndex = 2;"
        "one.dispatchEvent(new Event('change')); return document.activeElement.closest('section')?.id })()"
    )
    assert focus == "hierarchy"


def test_downloads(shown: Browser) -> None:
    for button in (1, 2, 3):
        shown.click(f"#download button:nth-child({button})")
    files = [shown.downloads / name for name in ("main-runs.csv", "main-cells.csv", "main.json")]
    end = time.monotonic() + 30
    while not all(file.is_file() and file.stat().st_size for file in files) and time.monotonic() < end:
        time.sleep(0.05)
    runs = list(csv.DictReader(io.StringIO(files[0].read_text(encoding="utf-8"))))
    assert len(runs) == 15
    assert {run["state"] for run in runs} == {"finished", "failed"}
    assert EVIL in {run["error"] for run in runs}
    assert len(list(csv.DictReader(io.StringIO(files[1].read_text(encoding="utf-8"))))) == 5 * 15


def test_a_phone(shown: Browser) -> None:
    shown.resize(390, 844, phone=True)
    shown.wait("document.querySelector('#curves svg').viewBox.baseVal.width < 400")
    assert shown.run("document.documentElement.scrollWidth <= innerWidth")
    small = shown.run(
        "[...document.querySelectorAll('button, select, input[type=search]')]"
        ".filter(one => one.offsetHeight && one.offsetHeight < 24 && !one.closest('td')).length"
    )
    assert small == 0
    shown.resize(390, 844, phone=False)


def test_paper(shown: Browser, tmp_path: Path) -> None:
    shown.pdf(tmp_path / "page.pdf")
    content = (tmp_path / "page.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 40
    assert shown.run("[...document.querySelectorAll('details')].every(one => one.open)")
    shown.call("Emulation.setEmulatedMedia", media="print")
    assert shown.run("getComputedStyle(document.querySelector('.bar')).display") == "none"
    shown.call("Emulation.setEmulatedMedia", media="")


def test_a_dark_room(shown: Browser) -> None:
    shown.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert shown.run("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 29)"
    shown.call("Emulation.setEmulatedMedia", features=[])


def test_the_page_is_drawn_with_little_work(browser: Browser, file: Path) -> None:
    """0.6 s of processors, of all processes of the browser together. benchmarks/page.py measures 500 runs."""
    before = browser.processor_seconds()
    browser.open(file)
    assert browser.milliseconds() > 0
    assert browser.processor_seconds() - before < allowed(3)
