"""The gate explorer in a real browser: Debian's chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.conftest import Process, _starter, repository, served, service
from tests.patience import PATIENCE, until

__all__ = ["repository", "served", "service"]

ARTIFACTS = "SCREENSHOTS"
"""Environment variable: the folder in which the tests leave their pictures."""
RULES_ON_COLOURS = ["color-contrast", "link-in-text-block"]
NETWORK_CHANGED = "ERR_NETWORK_CHANGED"
"""A container that comes or goes changes the machine's network, and Chromium drops what it is loading."""


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """A headless browser. Skips where there is none.

    It ends with these tests: Playwright keeps an event loop running in this thread, and no other test could start one.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="no browser: the package playwright is not installed")
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no browser: neither chromium nor google-chrome is on the PATH")
    with sync_api.sync_playwright() as playwright:
        # Chromium refuses its sandbox to root, as whom containers and CI run.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


class Visit:
    """One visit of the page, and what it asked of the service."""

    def __init__(self, page: Any, url: str, folder: Path) -> None:
        self.page = page
        self.url = url
        self.api = httpx.Client(base_url=url, timeout=PATIENCE)
        self.folder = folder
        self.errors: list[str] = []
        self.expected: tuple[str, ...] = ()
        """Parts of the errors that this visit brings about: they may come up to the end of the test."""
        self.cut_off = False
        """Whether something that the page loads was dropped. It asks the service again, but not for its own scripts."""
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self._note(message.text) if message.type == "error" else None)

    def _note(self, error: str) -> None:
        if NETWORK_CHANGED in error:
            self.cut_off = True
        else:
            self.errors.append(error)

    def open(self, fragment: str = "") -> Any:
        """Go to the page and wait for its first answer."""
        if self.page.url != "about:blank":
            self.page.goto("about:blank")  # else another fragment alone has the page load itself again, a moment later
        self._load(lambda: self.page.goto(f"{self.url}/{fragment}"))
        while True:
            self.until(lambda: self.cut_off or self.page.is_visible("main[aria-busy=false]"))
            if not self.cut_off:
                self.ready()
            if not self.cut_off:
                return self.page
            self.cut_off = False
            self.errors.clear()
            self._load(self.page.reload)

    def _load(self, load: Callable[[], object]) -> None:
        try:
            load()
        except Exception as error:
            if NETWORK_CHANGED not in str(error):
                raise
            self.cut_off = True

    def ready(self) -> None:
        """Wait until the page has drawn what it asked for last."""
        self.page.wait_for_selector("main[aria-busy=false]")
        self.pause(250)  # typing is debounced
        self.page.wait_for_selector(".ask[aria-busy=true]", state="detached")

    def pause(self, milliseconds: int) -> None:
        """Let the page's own timers run that are due by then: on a busy machine they come late, but in their order."""
        self.page.evaluate("time => new Promise(done => setTimeout(done, time))", milliseconds)

    def until(self, done: Callable[[], object]) -> None:
        """Wait until something is so, while Playwright goes on handling what the page does."""
        until(lambda: done() or self.page.wait_for_timeout(20), every=0)

    def type(self, text: str) -> None:
        """Write a text into the first card."""
        self.page.fill("#text-a", text)
        self.ready()

    def gates(self, **request: Any) -> Any:
        """What the API answers."""
        return self.api.post("/gates", json={"decimals": None, **request}).raise_for_status().json()

    def picture(self, name: str) -> None:
        """Keep a screenshot, for people to look at."""
        self.page.screenshot(path=self.folder / f"{name}.png", full_page=True)

    def cell(self, panel: str, column: float, row: float, columns: int, rows: int) -> tuple[float, float]:
        """Where a cell of a heat map lies, from the canvas's corner: the room for labels is the map's own."""
        box = self.page.locator(f"#{panel}").bounding_box()
        left, right, top, height = 34, 4, 3, 216
        width = box["width"] - left - right
        return left + (column + 0.5) / columns * width, top + (row + 0.5) / rows * height


Visiting = Callable[..., Visit]


@pytest.fixture
def visiting(browser: Any, tmp_path: Path) -> Iterator[Visiting]:
    """Makes visits to a service; every one must end without an error in the page."""
    folder = Path(os.environ.get(ARTIFACTS, tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    visits: list[Visit] = []
    contexts: list[Any] = []

    def visit(process: Process, **options: Any) -> Visit:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(1000 * PATIENCE)
        contexts.append(context)
        made = Visit(context.new_page(), process.url, folder)
        visits.append(made)
        return made

    yield visit
    for context in contexts:
        context.close()
    for made in visits:
        made.api.close()
        assert [error for error in made.errors if not any(part in error for part in made.expected)] == []


@pytest.fixture
def visit(visiting: Visiting, served: Process) -> Visit:
    """A visit to a service of the models that ship."""
    return visiting(served)


@pytest.fixture
def start(tmp_path: Path, repository: Path) -> Iterator[Any]:
    """Starts a service of the test's own."""
    yield from _starter(tmp_path, repository)


def violations(page: Any, scheme: str) -> list[tuple[str, list[str]]]:
    """What axe finds wrong: each rule and the first elements that break it. In the dark scheme the rules on colours
    alone: the others would find what they find in the light one. Skips without axe."""
    axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    page.evaluate((files(axe) / "axe.min.js").read_text(encoding="utf-8"))
    asked = {"resultTypes": ["violations"]} | ({"runOnly": RULES_ON_COLOURS} if scheme == "dark" else {})
    found = page.evaluate("options => axe.run(document, options)", asked)["violations"]
    return [(each["id"], [node["html"][:150] for node in each["nodes"]][:3]) for each in found]
