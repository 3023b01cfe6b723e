"""Pages of the documentation that are made when it is built, so that no text stands in two files.

README.md, CONTRIBUTING.md, CHANGELOG.md and slurm/README.md become pages of the site; their links are written for where
they lie in the repository and are turned here. The tables of docs/configuration.md come from the schema and from conf/.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the schema of this checkout, whatever is installed

from hldm.config.base import Section  # noqa: E402
from hldm.config.explain import must_be, section_of_field  # noqa: E402
from hldm.config.options import PRESETS, Options, description  # noqa: E402
from hldm.config.schema import RunConfig  # noqa: E402
from hldm.console import shown  # noqa: E402

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "slurm/README.md": "cluster.md",
}
FOLDERS = {"docs/results/": "results/diffusion.md", "docs/decisions/": "decisions/README.md"}
SETTINGS = "<!-- settings -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere in the repository."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        for written, target in (PAGES | FOLDERS).items():
            text = text.replace(f"]({written})", f"]({target})")
        text = re.sub(r"\[`[^`]+`\]\((profiles/[^)]+)\)", r"`slurm/\1`", text)  # files that are no pages
        files.append(File.generated(config, page, content=re.sub(r"\]\((\.\./)?docs/", "](", text)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the reference of all settings where its page asks for it."""
    return markdown.replace(SETTINGS, "\n".join(reference())) if SETTINGS in markdown else markdown


def reference() -> Iterator[str]:
    """Every group with its options, and every setting with its type, its default and its meaning, as Markdown."""
    groups = Options().of_runs
    yield from ["## Run", "", *_table(RunConfig, "")]
    for key, field in RunConfig.model_fields.items():
        if (section := section_of_field(field)) is not None:
            yield from [f"## {key}", "", _sentence(field.description or ""), "", *_options(key, groups.pop(key, {}))]
            yield from _sections(section, key)
    for key in [*(name for name in groups if name not in PRESETS), *PRESETS]:
        yield from [f"## {key}", "", *_options(key, groups[key])]


def _options(group: str, options: dict[str, Path]) -> Iterator[str]:
    """What `group=` can choose, each with its file to unfold."""
    for name, file in options.items():
        yield f'??? option "`{group}={name}`{_colon(description(file))}"'
        yield from ["", "    ```yaml", *(f"    {line}" for line in file.read_text(encoding="utf-8").splitlines())]
        yield from ["    ```", ""]


def _sections(section: type[Section], key: str) -> Iterator[str]:
    """The settings of a section, or of every member of a family, and of the sections that it holds."""
    members = list(section.members().values()) or [section]
    for member in members:
        if member.target is not None:
            yield from [f"### {member.target.rpartition('.')[2]} {{ #{key}-{member.__name__} }}", ""]
            yield from [f"`{key}._target_: {member.target}`", "", inspect.getdoc(member) or "", ""]
        yield from _table(member, f"{key}.")
        for name, field in member.model_fields.items():
            inner = section_of_field(field)
            if inner is not None and key != "geometry.manifold" and inner.__name__ != "Curvature":
                if inner.target is None and not inner.is_family:
                    yield from [f"### `{key}.{name}`", "", _sentence(field.description or ""), ""]
                yield from _sections(inner, f"{key}.{name}")


def _table(section: type[Section], prefix: str) -> Iterator[str]:
    """The settings of one section that hold values."""
    rows = [
        f"| `{prefix}{name}` | {_cell(must_be(field))} | {_default(field.default)} | {_cell(field.description or '')} |"
        for name, field in section.model_fields.items()
        if section_of_field(field) is None
    ]
    if rows:
        yield from ["| setting | must be | default | meaning |", "|---|---|---|---|", *rows, ""]


def _default(value: object) -> str:
    return "" if repr(value) == "PydanticUndefined" else f"`{shown(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else ""


def _colon(text: str) -> str:
    return f": {text}".replace('"', "'") if text else ""
