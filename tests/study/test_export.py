"""A comparison for spreadsheets, programs and papers."""

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hldm.run.directory import RunDirectory
from hldm.study.export import cells_csv, escaped, latex, runs_csv
from hldm.study.rows import rows_of_plan, rows_of_runs
from hldm.study.whole import Study
from tests.study.made_runs import made, small_study, usual


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return small_study(tmp_path, usual)


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_line_for_each_run_with_every_metric(study: Study) -> None:
    lines = read(runs_csv(study))
    assert len(lines) == 9  # the flat runs at both curvatures are one
    of = {(line["cell"], line["seed"]): line for line in lines}
    whole = of["poincare c=0.1", "1"]
    point = next(row.point for row in study.runs if row.point.run.path.name == whole["run"])
    metrics = usual(point)["metrics"]
    assert {name: float(whole[name]) for name in metrics} == metrics
    assert (whole["state"], whole["curvature"], whole["minutes"]) == ("finished", "0.1", "4.5")
    assert whole["config.geometry.name"] == "poincare"
    assert whole["config.curvature.value"] == "0.1"
    failed = of["poincare c=1", "2"]
    assert (failed["state"], failed["error"], failed["fid"]) == ("failed", "no luck", "")
    assert of["euclidean", "0"]["curvature"] == "flat"


def test_a_line_for_each_cell_and_figure(study: Study) -> None:
    lines = read(cells_csv(study.comparison))
    assert len(lines) == 3 * 15
    ball = next(line for line in lines if (line["cell"], line["figure"]) == ("poincare c=1", "fid_unguided"))
    difference = study.comparison.of("poincare c=1", "fid_unguided")
    assert difference is not None
    assert float(ball["difference"]) == difference.interval.mean
    assert float(ball["p_holm"]) == difference.adjusted
    assert (ball["baseline"], ball["seeds"], ball["paired_seeds"], ball["shown"]) == ("euclidean", "2", "2", "no")
    flat = next(line for line in lines if line["cell"] == "euclidean")
    assert flat["baseline"] == flat["difference"] == flat["shown"] == ""
    assert float(flat["real_images"]) == pytest.approx(0.047)


def test_text_that_a_spreadsheet_would_compute_is_quoted(tmp_path: Path) -> None:
    plan = made(tmp_path, "geometry=euclidean,poincare", usual)
    plan[0].run.update_status(state="failed", error='=HYPERLINK("http://x")')
    text = runs_csv(Study.of(tmp_path, rows_of_plan(plan)))
    assert read(text)[0]["error"] == '\'=HYPERLINK("http://x")'


def test_tables_for_latex(study: Study, tmp_path: Path) -> None:
    text = latex(study.comparison)
    assert text.count(r"\begin{tabular}") == text.count(r"\toprule") == 3  # samples, likelihood, first stage
    tables = re.findall(r"\\begin\{tabular\}\{(l.*?)\}\n(.*?)\\end", text, re.DOTALL)
    for columns, content in tables:
        lines = [line for line in content.splitlines() if line.endswith(r" \\")]
        assert {line.count(" & ") for line in (part.replace(r"\&", "") for part in lines)} == {len(columns) - 1}
    assert r"FID $\downarrow$" in text
    assert r"label accuracy $\uparrow$" in text
    assert re.search(r"poincare c=1 & 2 & .*\$1\.22\d? \\pm 0\.\d+\$", text)
    if compiler := shutil.which("pdflatex"):
        document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{text}\end{{document}}"
        (tmp_path / "table.tex").write_text(document, encoding="utf-8")
        subprocess.run([compiler, "-interaction=batchmode", "-halt-on-error", "table.tex"], cwd=tmp_path, check=True)


def test_what_latex_would_read_is_escaped() -> None:
    assert escaped(r"a_b 50% #1 {x} \y ~^&$ −1") == (
        r"a\_b 50\% \#1 \{x\} \textbackslash{}y \textasciitilde{}\textasciicircum{}\&\$ $-$1"
    )


def test_a_damaged_run_is_named_and_the_others_are_compared(tmp_path: Path) -> None:
    plan = made(tmp_path, "geometry=euclidean,poincare seed=0,1", usual)
    (plan[0].run.path / "results.json").write_text("{", encoding="utf-8")
    rows, damaged = rows_of_runs(RunDirectory.find(str(tmp_path / "main")))
    assert len(rows) == 3
    assert len(damaged) == 1
    assert plan[0].run.path.name in damaged[0]
    study = Study.of(tmp_path, rows, damaged)
    assert [cell.seeds for cell in study.comparison.cells] == [(1,), (0, 1)]
