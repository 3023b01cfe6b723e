"""Pages of the documentation that are made when it is built, so that no text stands in two files.

README.md, CONTRIBUTING.md and CHANGELOG.md become pages of the site; their links are written for the root of the
repository and are turned here. The settings of docs/configuration.md come from their schema.
"""

import subprocess
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
SETTINGS = "<!-- settings -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie in the root of the repository."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        for other, target in PAGES.items():
            text = text.replace(f"]({other}", f"]({target}")
        text = text.replace("](docs/results/)", "](results/diffusion.md)").replace("](docs/decisions/)", "](decisions/README.md)")
        files.append(File.generated(config, page, content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the reference of all settings where its page asks for it."""
    if SETTINGS not in markdown:
        return markdown
    reference = subprocess.run(
        [sys.executable, "-m", "hldm.config.reference"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return markdown.replace(SETTINGS, reference.stdout)
