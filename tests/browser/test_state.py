"""What the page shows belongs to the model and the text that are chosen, and so does what is taken along."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Visit, Visiting
from tests.integration.conftest import Process

TEXT = "a very good film"


class Held:
    """Keeps the page's requests to a route, those whose body has a text, until they are let go."""

    def __init__(self, visit: Visit, containing: str) -> None:
        self.routes: list[Any] = []
        self._containing = containing
        self._open = False
        visit.page.route("**/gates", self._meet)

    def _meet(self, route: Any) -> None:
        if not self._open and self._containing in json.dumps(route.request.post_data_json):
            self.routes.append(route)
        else:
            route.continue_()

    def let_go(self) -> None:
        self._open = True
        for route in self.routes:
            route.continue_()


@pytest.mark.parametrize("before", ["sentiment-lstm", "sentiment-gru"])
def test_statistics_of_another_model_go(visiting: Visiting, service: Process, before: str) -> None:
    visit = visiting(service)
    page = visit.open(f"#model={before}&text={TEXT}")
    page.wait_for_selector("#statistics :text('Longest:')")
    page.select_option("#model-a", "sentiment-rnn")
    visit.ready()
    page.wait_for_selector("#statistics .empty")
    shown = page.inner_text("#statistics")
    assert "no horizon" in shown
    assert "no gate between 0 and 1" in shown
    for left in ("Longest", "unit is shut", "Horizons as a table", "Saturation as a table", "forget", "update"):
        assert left not in shown
    page.set_viewport_size({"width": 900, "height": 800})  # charts are drawn anew
    visit.pause(200)
    assert "Longest" not in page.text_content("#statistics")


def test_nothing_of_another_model_is_shown_while_one_reads(visiting: Visiting, service: Process) -> None:
    visit = visiting(service)
    page = visit.open(f"#model=sentiment-lstm&text={TEXT}&unit=2&token=1&direction=forward")
    page.wait_for_selector("#statistics .chart")
    page.hover("#map-hidden-forward", position={"x": 120, "y": 80})
    held = Held(visit, '"model": "sentiment-rnn"')
    page.select_option("#model-a", "sentiment-rnn")
    visit.until(lambda: held.routes)
    for gone in ("#mattered", "#unit", "#statistics", "#take", ".bars", ".verdict"):
        assert not page.is_visible(gone), gone
    assert page.locator(".equations dt").all_inner_texts() == ["hidden"]
    assert page.locator(".numbers").all_inner_texts() == [""]
    assert page.locator("#gates canvas[role=application]").count() == 1
    held.let_go()
    visit.ready()
    page.wait_for_selector("#statistics .chart")
    assert page.locator(".equations dt").all_inner_texts() == ["hidden"]
    page.mouse.move(0, 0)
    value = visit.gates(model="sentiment-rnn", inputs=TEXT)["traces"][0]["layers"][0]["gates"]["hidden"][1][2]
    shown = page.inner_text(".equations .numbers").replace("−", "-")
    assert float(shown.split()[-1]) == pytest.approx(value, abs=6e-4)


def test_a_late_answer_of_another_model_is_dropped(visiting: Visiting, service: Process) -> None:
    visit = visiting(service)
    page = visit.open(f"#model=sentiment-gru&text={TEXT}")
    held = Held(visit, '"model": "sentiment-lstm"')
    page.select_option("#model-a", "sentiment-lstm")
    visit.until(lambda: held.routes)
    page.select_option("#model-a", "sentiment-rnn")
    visit.ready()
    held.let_go()
    visit.pause(300)
    assert page.locator(".equations dt").all_inner_texts() == ["hidden"]
    assert "sentiment-rnn" in _code(page)


def test_a_backward_view_does_not_ask_a_forward_model_again(visiting: Visiting, service: Process) -> None:
    visit = visiting(service)
    page = visit.open(f"#model=sentiment-lstm&text={TEXT}&direction=backward")
    page.wait_for_selector("#statistics .chart")
    asked: list[str] = []
    # The browser asks for the page's icon again after a change of the address; a unit that is picked shows its card.
    page.on(
        "request", lambda request: asked.extend([request.url] if not re.search("/page/|/units/", request.url) else [])
    )
    page.click("#map-cell-forward", position={"x": 120, "y": 80})
    page.select_option("#sort", "mean")
    visit.pause(200)
    assert asked == []


def test_what_is_taken_along_is_what_is_shown(visit: Visit, tmp_path: Path) -> None:
    visit.expected = ("Failed to load resource",)
    page = visit.open("#text=A good film.")
    assert "A good film." in _code(page)
    visit.type("A bad film.")
    assert "A bad film." in page.inner_text("#take pre")
    assert "A good film." not in page.text_content("#take")
    held = Held(visit, "A dull film.")
    page.fill("#text-a", "A dull film.")
    visit.until(lambda: held.routes)
    assert not page.is_visible("#take pre")
    assert page.locator("#take button:enabled").count() == 0
    held.let_go()
    visit.ready()
    assert "A dull film." in page.inner_text("#take pre")
    visit.until(lambda: "A%20dull" in page.evaluate("location.hash").replace("+", "%20"))  # written a moment later
    _refuse(page, 422, "No.")
    page.fill("#text-a", "A lost film.")
    page.wait_for_selector(".problem:has-text('No.')")
    assert not page.is_visible("#take")
    page.unroute("**/gates")
    visit.type("A found film.")
    assert "A found film." in page.inner_text("#take pre")
    with page.expect_download() as waiting:
        page.click("#take button:has-text('SVG')")
    waiting.value.save_as(tmp_path / "picture.svg")
    title = ET.parse(tmp_path / "picture.svg").getroot().find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text == "sentiment-bilstm: A found film."


def test_what_is_taken_along_follows_the_token_and_the_model(visit: Visit) -> None:
    text = "President George Bush flew to Iraq."
    page = visit.open(f"#model=ner-bilstm&text={text}")
    page.wait_for_selector("#mattered .sum-of")
    _code(page)
    page.click("#mattered [data-token='5']")
    page.wait_for_selector("#mattered .sum-of:has-text('token 5 ')")
    assert r"\"explain\":5" in page.inner_text("#take pre")
    page.click("#compare")
    page.select_option("#model-b", "ner-bigru")
    visit.ready()
    page.wait_for_selector("#mattered-b .sum-of")
    code = page.inner_text("#take pre")
    assert "ner-bilstm" in code
    assert "ner-bigru" in code
    page.click("#compare")
    assert "ner-bigru" not in page.inner_text("#take pre")


def test_a_failed_download_leaves_the_answer(visit: Visit) -> None:
    visit.expected = ("Failed to load resource",)
    page = visit.open()
    _refuse(page, 413, "The trace is too large.")
    page.click("#take button:has-text('JSON')")
    page.wait_for_selector("#take [role=status]:has-text('The trace is too large.')")
    assert page.is_visible(".verdict")


@pytest.mark.parametrize(
    ("fragment", "lost"),
    [
        ("#model=sentiment-large", "sentiment-large"),
        (f"#model=%3Cb%3E&label=x&explain=9&layer=7&text={TEXT}", "<b>"),
        (f"#text={TEXT}&with=ner-large&and={TEXT}", "ner-large"),
    ],
)
def test_a_link_to_a_model_that_is_not_served_says_so(
    visiting: Visiting, service: Process, fragment: str, lost: str
) -> None:
    visit = visiting(service)
    page = visit.open(fragment)
    said = page.inner_text("#missing")
    assert f"does not serve “{lost}”" in said
    for model in visit.api.get("/models").json()["models"]:
        assert f"“{model['name']}”" in said
    assert "Shown is “sentiment-bilstm”" in said
    assert page.input_value("#model-a") == "sentiment-bilstm"
    assert page.is_visible(".verdict")
    page.select_option("#model-a", "sentiment-gru")
    visit.ready()
    assert not page.is_visible("#missing")


def test_a_link_opened_in_the_same_page_is_followed(visiting: Visiting, service: Process) -> None:
    visit = visiting(service)
    page = visit.open(f"#text={TEXT}")
    page.evaluate("location.hash = '#model=sentiment-gru&text=bad'")
    page.wait_for_selector("#model-a:has(option[value=sentiment-gru]:checked)")
    visit.ready()
    assert page.input_value("#text-a") == "bad"
    page.evaluate("document.querySelector('.skip').click()")
    visit.pause(300)
    assert page.input_value("#text-a") == "bad"


def _refuse(page: Any, status: int, detail: str) -> None:
    """Have every trace refused."""
    problem = json.dumps({"detail": detail})
    page.route("**/gates", lambda route: route.fulfill(status=status, content_type="application/json", body=problem))


def _code(page: Any) -> str:
    """Have the page show its Python code."""
    page.click("#take button:has-text('Python')")
    page.wait_for_selector("#take pre")
    return str(page.inner_text("#take pre"))
