"""What a comparison leaves in the folder of its study: for programs, for spreadsheets, for papers and for people."""

import json
from collections.abc import Callable, Iterator

from hldm.files import write_text_atomically
from hldm.study.export import cells_csv, latex, runs_csv
from hldm.study.page import page
from hldm.study.verdict import verdict
from hldm.study.whole import Study


def write_files(study: Study, *, has_latex: bool) -> Iterator[str]:
    """Write them; a line on each, or on why it cannot be written. The page stands last, where people look first."""
    files: dict[str, Callable[[Study], str]] = {
        "comparison.json": _json,
        "cells.csv": lambda study: cells_csv(study.comparison),
        "summary.csv": runs_csv,
        **({"comparison.tex": lambda study: latex(study.comparison)} if has_latex else {}),
        "comparison.html": page,
    }
    what = {
        "comparison.json": "All of it for programs",
        "cells.csv": "A line for each cell and figure",
        "summary.csv": "A line for each run",
        "comparison.tex": "Tables for LaTeX",
        "comparison.html": "The page to look at, in any browser",
    }
    for name, text in files.items():
        file = study.folder / name
        try:
            write_text_atomically(file, text(study))
        except OSError as error:  # outputs that are only read
            yield f"{file} cannot be written ({error.strerror or error})."
        else:
            yield f"{what[name]}: {file}"


def _json(study: Study) -> str:
    """All of it for programs, with the sentences."""
    comparison = study.comparison
    compared = dict.fromkeys(one.cell for one in comparison.differences)
    content = {
        **comparison.as_json(),
        "verdicts": {cell: verdict(comparison, cell) for cell in compared},
        "checks": [{"what": check.what, "holds": check.holds, "facts": check.facts} for check in study.checks],
    }
    # in one line: indented, a thousand runs take a second and 25 MB more
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"
