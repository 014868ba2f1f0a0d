"""Take the pictures of the reading guides from the real page: `python docs/pictures.py http://127.0.0.1:8000`.

Each is a part of the gate explorer as a browser shows it, for a link that the guide gives too.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).parent / "reading"
TWO_LEADS = "The plot is thin and the jokes are not funny, but the two leads are wonderful."
WRONG = "You will not be disappointed."
PLAIN = "You will be disappointed."
REVIEW = (
    "I had heard good things about this film. The first hour is slow, the middle is slower, and by the end I did not "
    "care who lived. The actors try. The music tries too. Nothing helps: it is a dull, long, empty film."
)


def fragment(**state: object) -> str:
    """The part of the page's address that holds a view."""
    return "#" + urlencode(state)


VIEWS = {
    "page": (
        fragment(model="sentiment-bilstm", text=TWO_LEADS, gate="cell", unit=49, token=17, direction="forward"),
        None,
    ),
    "forget": (
        fragment(model="sentiment-bilstm", text=REVIEW, shown="forward", sort="mean", by="forget"),
        ".panels .panel",
    ),
    "horizon": (
        fragment(model="sentiment-bilstm", text=REVIEW, direction="forward"),
        "#statistics .boxes > :nth-child(3)",
    ),
    "saturation": (
        fragment(model="sentiment-bilstm", text=REVIEW, direction="forward"),
        "#statistics .boxes > :nth-child(2)",
    ),
    "wrong-answer": (fragment(model="sentiment-bilstm", text=WRONG, label="positive"), "#ask .ask"),
    "wrong-shares": (fragment(model="sentiment-bilstm", text=WRONG, label="positive"), "#mattered-a"),
    "wrong-compared": (
        fragment(model="sentiment-bilstm", text=WRONG, label="positive", **{"with": "sentiment-bilstm", "and": PLAIN}),
        "#mattered .stack",
    ),
}


def take(page: Page, url: str) -> None:
    """Write every picture."""
    FOLDER.mkdir(exist_ok=True)
    for name, (view, part) in VIEWS.items():
        page.goto("about:blank")
        page.goto(f"{url}/{view}")
        page.wait_for_selector("main[aria-busy=false]")
        page.wait_for_selector("#statistics .chart")
        page.wait_for_timeout(400)
        path = FOLDER / f"{name}.png"
        if part is None:
            page.screenshot(path=path)
        else:
            page.locator(part).first.screenshot(path=path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Start a browser and take the pictures."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if len(sys.argv) != 2 or executable is None:
        sys.exit("usage: python docs/pictures.py URL, with chromium or google-chrome on the PATH")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        take(browser.new_page(viewport={"width": 1180, "height": 860}), sys.argv[1])
        browser.close()


if __name__ == "__main__":
    main()
