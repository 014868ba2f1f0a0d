"""Every relative link and anchor leads somewhere: in a checkout, and on the built site."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from docs import generated
from tests.integration.conftest import ROOT

_HIDDEN = (".venv", "node_modules", "site", "build", "dist")
PAGES = sorted(
    path
    for ending in ("*.md", "*.ipynb")
    for path in ROOT.rglob(ending)
    if not any(part in _HIDDEN or part.startswith((".", "my-")) for part in path.relative_to(ROOT).parts)
)
"""All documents of the repository: README, guides, model cards, notebooks."""
_CODE = re.compile(r"^( *)(```+|~~~+).*?^ *\2 *$|(`+)(?!`).*?(?<!`)\3(?!`)|<!--.*?-->", re.DOTALL | re.MULTILINE)
_LINK = re.compile(
    r"\]\(\s*<?([^)\s>]+)>?(?:\s+[\"'(][^)]*)?\)|^\s*\[[^\]^]+\]:\s*(\S+)|(?:href|src)=\"([^\"]+)\"", re.MULTILINE
)
_HEADING = re.compile(r"^#{1,6} +(.*?)(?: +#+)?$", re.MULTILINE)


def markdown(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return text


def links(text: str) -> Iterator[str]:
    """The targets of all links and pictures that are not addresses of the web."""
    for found in _LINK.finditer(_CODE.sub("", text)):
        target = next(filter(None, found.groups()))
        if not urlsplit(target).scheme and not target.startswith("//"):
            yield target


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives a document's headings, and those that it sets itself."""
    found: set[str] = set()
    plain = re.sub(r"^( *)(```+|~~~+).*?^ *\2 *$", "", text, flags=re.DOTALL | re.MULTILINE)
    for heading in _HEADING.findall(plain):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", each) is not None for each in found)
        found.add(f"{name}-{number}" if number else name)
    return found | set(re.findall(r"\b(?:id|name)=\"([^\"]+)\"", plain))


def broken(page: Path) -> list[str]:
    """The links of a document that lead nowhere."""
    text, found = markdown(page), []
    for link in links(text):
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        there = target.exists() and target.is_relative_to(ROOT)
        known = not anchor or (there and target.suffix == ".md" and anchor in anchors(markdown(target)))
        if not (there and known):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere_in_a_checkout(page: Path) -> None:
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_docs_links.ROOT", tmp_path)
    page = tmp_path / "page.md"
    (tmp_path / "there.md").write_text("# One *two*: three\n## Again\n## Again\n", encoding="utf-8")
    good = "[a](there.md#one-two-three) [b](#here) [c](there.md#again-1 'title') ![d](page.md) [e](https://x.org/y)"
    page.write_text(f"# Here\n{good}\n`[f](code.md)`\n```\n[g](code.md)\n```\n[h]: there.md\n", encoding="utf-8")
    assert broken(page) == []
    bad = ["gone.md", "there.md#gone", "#gone", "there.md#again-2", "../outside.md", "gone.png"]
    page.write_text("# Here\n" + " ".join(f"[x]({each})" for each in bad) + '<img src="gone.svg">', encoding="utf-8")
    assert broken(page) == [*bad, "gone.svg"]


class _Page(HTMLParser):
    """The links and the anchors of a page of the site."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors = {"", "__skip"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.mark.timeout(300)
def test_the_site_has_every_page(site: Path) -> None:
    for page in ("index.html", "tutorial/first-model.html", *(f"reference/{name}.html" for name in generated.PAGES)):
        assert (site / page).is_file()


@pytest.mark.timeout(300)
def test_links_lead_somewhere_on_the_site(site: Path) -> None:
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}
    lost = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (target in pages and unquote(parts.fragment) not in pages[target].anchors):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert lost == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", generated.PAGES)
def test_links_to_generated_pages_lead_there_on_the_site(site: Path, name: str) -> None:
    assert f"reference/{name}.html" in _Page((site / "index.html").read_text(encoding="utf-8")).links
    assert f"reference/{name}.html" in _Page((site / "reference.html").read_text(encoding="utf-8")).links
