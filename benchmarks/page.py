"""How fast the gate explorer draws, in headless Chromium: `python -m benchmarks.page`.

The page is the service's own; the numbers that it is answered are made up here, so that they can be as many as the
largest model has: 256 units, 6 gates, 2 directions. Times run from the moment at which the whole answer has arrived.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from time import sleep
from typing import Any

import httpx
import numpy as np

from service.model.equations import equations

UNITS = 256
SIDES = ("forward", "backward")
FRAMES = 150
FIRST_PICTURE, SMALL_PICTURE, RATE = 1000.0, 100.0, 30.0
"""Targets: milliseconds for 1,000 tokens and for 40, and frames a second."""

_MOVE = """async (frames) => {
    const canvas = document.querySelector("#map-forget-forward");
    const { left, top, width } = canvas.getBoundingClientRect();
    const at = { bubbles: true, cancelable: true, clientX: left + width / 2, clientY: top + 90, pointerId: 1 };
    canvas.setPointerCapture = () => {};
    const next = () => new Promise(requestAnimationFrame);
    const times = [await next()];
    for (let frame = 0; frame < frames; frame++) {
        const phase = Math.floor(frame / 25) % 4;
        if (phase % 2 === 0) {
            canvas.dispatchEvent(new WheelEvent("wheel", { ...at, ctrlKey: true, deltaY: phase ? 60 : -60 }));
        } else {
            canvas.dispatchEvent(new PointerEvent("pointerdown", at));
            const clientX = at.clientX + (phase > 1 ? 9 : -9);
            canvas.dispatchEvent(new PointerEvent("pointermove", { ...at, clientX }));
            canvas.dispatchEvent(new PointerEvent("pointercancel", at));
        }
        times.push(await next());
    }
    return times.slice(1).map((time, frame) => time - times[frame]);
}"""


def answer(tokens: int) -> bytes:
    """An answer of `/gates` with this many tokens: every gate of a wide bidirectional LSTM."""
    generator = np.random.default_rng(0)
    named = equations("lstm")
    arrays = {
        f"0/0/{side}/{gate}": generator.random((tokens, UNITS), np.float32) * (1 if "sigmoid" in rule else 2)
        - (0 if "sigmoid" in rule else 1)
        for side in SIDES
        for gate, rule in named.items()
    }
    words = [{"text": f"word{number}", "start": 7 * number, "end": 7 * number + 6} for number in range(tokens)]
    share = 1 / tokens
    trace = {
        "tokens": words,
        "prediction": {"label": "positive", "score": 0.5, "scores": {"negative": 0.5, "positive": 0.5}},
        "layers": [{"layer": 0, "direction": side} for side in SIDES],
        "contributions": {
            "labels": ["negative", "positive"],
            "bias": [0.0, 0.0],
            "tokens": [[-share, share]] * tokens,
            "logits": [-1.0, 1.0],
            "of": "tokens",
            "method": "made up",
        },
    }
    head = {"model": "wide", "version": "1", "task": "sentiment", "cell": "lstm", "equations": named, "traces": [trace]}
    header: dict[str, Any] = {"__metadata__": {"response": json.dumps(head)}}
    end = 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(array.tobytes() for array in arrays.values())


def _models() -> dict[str, Any]:
    model = {
        "name": "wide",
        "version": "1",
        "task": "sentiment",
        "cell": "lstm",
        "directions": list(SIDES),
        "layers": 1,
        "hidden": UNITS,
        "labels": ["negative", "positive"],
        "gates": list(equations("lstm")),
        "equations": equations("lstm"),
        "quality": [],
    }
    return {"default": {"sentiment": "wide"}, "models": [model], "refused": []}


def _visit(browser: Any, url: str, tokens: int) -> tuple[Any, float]:
    """A page that has drawn so many tokens, and the milliseconds of CPU time since it was opened."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000}, bypass_csp=True)  # to ask it over and over
    body = answer(tokens)

    def gates(route: Any) -> None:
        if "summary" in (route.request.post_data or ""):
            route.abort()  # statistics are small, and not measured here
        else:
            route.fulfill(body=body, content_type="application/vnd.safetensors")

    page.route("**/models", lambda route: route.fulfill(json=_models()))
    page.route("**/gates", gates)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(f"{url}/#text={'+'.join(['word'] * 3)}")
    page.wait_for_function("performance.getEntriesByName('first picture').length > 0", timeout=60_000)
    return page, _thread_seconds(session) * 1000


def _thread_seconds(session: Any) -> float:
    """CPU seconds of the page's main thread: unlike times by the clock, a busy machine leaves them alone."""
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return float(metrics["TaskDuration"])


def measure(browser: Any, url: str) -> dict[str, float]:
    """Milliseconds to the first drawing, and frames a second while zooming and panning."""
    found: dict[str, float] = {}
    for tokens in (40, 1000):
        times, busy = [], []
        for _ in range(3):
            page, cpu = _visit(browser, url, tokens)
            times.append(page.evaluate("performance.getEntriesByName('first picture')[0].duration"))
            if tokens == 1000 and len(times) == 3:
                frames = sorted(page.evaluate(_MOVE, FRAMES))
                found["frames a second, mean"] = 1000 * len(frames) / sum(frames)
                found["milliseconds a frame, 95 in 100"] = frames[int(0.95 * len(frames))]
            busy.append(cpu)
            page.close()
        found[f"milliseconds to the first picture, {tokens} tokens"] = sorted(times)[1]
        found[f"CPU milliseconds, page and picture, {tokens} tokens"] = sorted(busy)[1]
    return found


def main() -> None:
    """Start a service, measure, print a table; status 1 where a figure misses its mark and `--check` is given."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a figure misses its mark")
    options = parser.parse_args()
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        sys.exit("no browser: neither chromium nor google-chrome is on the PATH")
    with served() as url, sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        found = measure(browser, url)
        browser.close()
    for name, value in found.items():
        print(f"{name:50} {value:8.1f}")
    good = (
        found["milliseconds to the first picture, 40 tokens"] < SMALL_PICTURE
        and found["milliseconds to the first picture, 1000 tokens"] < FIRST_PICTURE
        and found["frames a second, mean"] > RATE
    )
    if options.check and not good:
        sys.exit(1)


@contextmanager
def served() -> Iterator[str]:
    """The address of a service of the shipped models, for as long as the block lasts."""
    command = [sys.executable, "-m", "service", "serve", "--port", "0", "--log-format", "json"]
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603 # our own program, no shell
    with service:
        try:
            url = _url(service)
            while httpx.get(f"{url}/health/ready").status_code != 200:
                sleep(0.1)
            Thread(target=service.stderr.read, daemon=True).start()  # type: ignore[union-attr]  # a pipe, as asked
            yield url
        finally:
            service.terminate()


def _url(service: subprocess.Popen[str]) -> str:
    assert service.stderr is not None
    for line in service.stderr:
        event = json.loads(line)
        if event.get("event") == "listening":
            return str(event["url"])
    sys.exit("the service did not start")


if __name__ == "__main__":
    main()
