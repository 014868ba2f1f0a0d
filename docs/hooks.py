"""Our part of mkdocs: the navigation, made of the pages that there are, and the generated reference pages.

A page below tutorial/, how-to/, reference/ or explanation/ stands in that section. Another page stands in the section
that `SECTIONS` has for it or its folder, in how-to where it has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from docs import generated

ROOT = Path(__file__).resolve().parents[1]
HOME = "index.md"
TITLES = {
    "tutorial": "Tutorial",
    "how-to": "How-to guides",
    "reference": "Reference",
    "explanation": "Explanation",
}
SECTIONS = {
    "benchmarks.md": "reference",
    "data.md": "reference",
    "models.md": "reference",
    "quality.md": "reference",
    "reference.md": "reference",
    "gradients.md": "explanation",
    "reading": "explanation",
}
_OUTSIDE = re.compile(r"\]\((?:\.\./)+([^)#\s]+)(#[^)\s]*)?\)")
_GENERATED = re.compile(rf"\]\(((?:[\w./-]*/)?)reference\.md#({'|'.join(generated.PAGES)})\)")
"""A link to what reference.md says of a generated page, as it stands in a checkout."""


def navigation(pages: Iterable[str]) -> list[Any]:
    """The pages, all of them, in their sections."""
    sections: dict[str, list[str]] = {section: [] for section in TITLES}
    for page in sorted(pages):
        if page == HOME:
            continue
        place = page.partition("/")[0]
        sections[place if place in sections else SECTIONS.get(place, "how-to")].append(page)
    return [{"Gatelight": HOME}, *({TITLES[section]: found} for section, found in sections.items() if found)]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    docs = Path(config.docs_dir)
    written = (path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    config.nav = navigation({*written, *(f"reference/{name}.md" for name in generated.PAGES)})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, page in generated.PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links that leave docs/ for a file of the repository become that file's name: the site has no such page. Links to
    the sections of reference.md become links to the generated pages, which only the site has."""
    depth = page.file.src_uri.count("/") + 1

    def named(found: re.Match[str]) -> str:
        leaves = found[0][2:].count("../") >= depth
        return f"]: `{found[1]}`" if leaves and (ROOT / found[1]).exists() else found[0]

    if page.file.src_uri == "reference.md":
        markdown = re.sub(
            r"^## (\w+)$", lambda title: f"## [{title[1]}](reference/{title[1].lower()}.md)", markdown, flags=re.M
        )
    markdown = _GENERATED.sub(r"](\1reference/\2.md)", markdown)
    return _OUTSIDE.sub(named, markdown).replace("]: `", "] `")
