"""Take the pictures of the reading guides from the real page, and put the shipped model's figures into their text.

`make pictures`, or `python -m docs.pictures [URL]` for a service that runs already. Each picture is a part of the gate
explorer as a browser shows it.
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from benchmarks.load import HOST
from benchmarks.serving import ROOT, server
from docs.figures import FOLDER, MODEL, REVIEW, TWO_LEADS, asking, figures, fill

if TYPE_CHECKING:
    from playwright.sync_api import Page, ViewportSize

PICTURES = ("page", "forget", "horizon", "saturation", "wrong-answer", "wrong-shares", "wrong-compared")


SIZE: ViewportSize = {"width": 1180, "height": 860}


def views(found: dict[str, str]) -> dict[str, tuple[dict[str, object], str | None]]:
    """The contents of each picture: a state of the page, and the part of it, or all that is in sight."""
    review: dict[str, object] = {"text": REVIEW, "direction": "forward"}
    wrong: dict[str, object] = {"text": found["wrong.text"], "label": "positive"}
    unit = int(found["horizon.unit"])
    parts: list[tuple[dict[str, object], str | None]] = [
        ({"text": TWO_LEADS, "gate": "cell", "unit": unit, "token": 17, "direction": "forward"}, None),
        ({"text": REVIEW, "shown": "forward", "sort": "mean", "by": "forget"}, ".panels .panel"),
        (review, "#statistics .boxes > :nth-child(3)"),
        (review, "#statistics .boxes > :nth-child(2)"),
        (wrong, "#ask .ask"),
        (wrong, "#mattered-a"),
        ({**wrong, "with": MODEL, "and": found["wrong.plain"]}, "#mattered .stack"),
    ]
    return dict(zip(PICTURES, parts, strict=True))


def take(page: Page, url: str, found: dict[str, str]) -> None:
    """Write every picture."""
    for name, (state, part) in views(found).items():
        page.goto("about:blank")
        page.goto(f"{url}/#{urlencode({'model': MODEL, **state})}")
        page.wait_for_selector("main[aria-busy=false]")
        page.wait_for_selector("#statistics .chart")
        page.wait_for_timeout(400)
        path = FOLDER / f"{name}.png"
        if part is None:
            page.set_viewport_size({**SIZE, "height": 1330})  # down to the first gates
            page.wait_for_timeout(400)
            page.screenshot(path=path)
            page.set_viewport_size(SIZE)
        else:
            page.locator(part).first.screenshot(path=path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def write(found: dict[str, str]) -> None:
    """Put the figures into every guide."""
    for page in sorted(FOLDER.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        page.write_text(fill(text, found), encoding="utf-8")
        print(f"{page.name}: {'as it was' if fill(text, found) == text else 'written anew'}")


def main() -> None:
    """Ask the model for the figures, write them, and take the pictures."""
    from playwright.sync_api import sync_playwright

    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if len(sys.argv) > 2 or executable is None:
        sys.exit("usage: python -m docs.pictures [URL], with chromium or google-chrome on the PATH")
    with ExitStack() as stack:
        if len(sys.argv) == 2:
            url = sys.argv[1].rstrip("/")
        else:
            service = stack.enter_context(server("service", "serve", "--models", str(ROOT / "models")))
            url = f"http://{HOST}:{service.port}"
        found = figures(asking(url))
        write(found)
        playwright = stack.enter_context(sync_playwright())
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        take(browser.new_page(viewport=SIZE), url, found)
        browser.close()


if __name__ == "__main__":
    main()
