"""Live reading: typing, playing and stepping move the answer and the gates; links, keyboard and other ways go on."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser.conftest import Visit, Visiting
from tests.integration.conftest import Process

TEXT = "A slow start, but a wonderful end."
LINK = f"#live=1&liveModel=sentiment-lstm&liveText={quote(TEXT)}"


def _rows(page: Any) -> list[list[str]]:
    """The table of answers: number, text, answer."""
    details = "#stream details.behind"
    if page.locator(f"{details}[open]").count():
        page.click(f"{details} > summary")
    page.click(f"{details} > summary")
    rows = page.locator(f"{details} tbody tr").all()
    return [row.locator("th, td").all_inner_texts() for row in rows]


def _predicted(visit: Visit, text: str, model: str = "sentiment-lstm") -> str:
    answer = visit.api.post("/predict", json={"model": model, "inputs": text}).raise_for_status().json()
    found = answer["predictions"][0]
    return f"{found['label']} {100 * found['score']:.1f} %"


def _finished(visit: Visit) -> str:
    visit.page.wait_for_selector("#live-answer:has-text('Whole text')")
    return str(visit.page.inner_text("#live-answer")).removeprefix("Whole text: ")


def test_what_is_typed_moves_the_state(visit: Visit) -> None:
    page = visit.open()
    page.click("#live-open")
    page.fill("#live-text", "")
    page.click("#live-text")
    page.keyboard.type("The film is gr")
    page.wait_for_selector("#live-answer:has-text('“is”')")
    page.keyboard.type("eat. I ")
    page.wait_for_selector("#live-answer:has-text('“I”')")
    assert [row[1] for row in _rows(page)] == ["The", "film", "is", "great", ".", "I"]
    assert page.locator("#live-panels canvas[role=application]").count() == 6
    assert "last 6 tokens" in page.get_attribute("#live-forget", "aria-label")
    assert page.locator("#live-curve svg[role=img] path.series").count() == 2
    page.click("#live-finish")
    assert _finished(visit) == _predicted(visit, "The film is great. I ")
    visit.picture("live")


def test_an_edit_in_the_middle_begins_the_text_anew(visit: Visit) -> None:
    page = visit.open(f"{LINK}&liveAt={len(TEXT)}")
    page.wait_for_selector("#live-answer:has-text('“wonderful”')")
    page.fill("#live-text", "A slow start, but a dreadful 👩‍👩‍👧 end. ")
    page.wait_for_selector("#live-answer:has-text('“👩‍👩‍👧”')")
    assert [row[1] for row in _rows(page)][6:] == ["dreadful", "👩‍👩‍👧"]  # more text may follow the full stop
    page.click("#live-finish")
    assert _finished(visit) == _predicted(visit, "A slow start, but a dreadful 👩‍👩‍👧 end. ")
    page.fill("#live-text", "Good")  # behind the end the next text begins
    page.click("#live-finish")
    visit.until(lambda: page.inner_text("#live-answer") == f"Whole text: {_predicted(visit, 'Good')}")


def test_play_pause_and_step(visit: Visit) -> None:
    page = visit.open(LINK)
    page.click("#live-step")
    page.click("#live-step")
    page.wait_for_selector("#live-answer:has-text('“A”')")
    assert [row[1] for row in _rows(page)] == ["A"]  # "slow" may go on: one word behind
    page.select_option("#live-pace", "fast")
    page.click("#live-play")
    assert page.inner_text("#live-play") == "Pause"
    page.wait_for_selector("#live-answer:has-text('“but”')")
    page.click("#live-play")
    assert page.get_attribute("#live-play", "aria-pressed") == "false"
    visit.pause(400)
    count = len(_rows(page))
    visit.pause(400)
    assert len(_rows(page)) == count
    page.click("#live-play")
    assert _finished(visit) == _predicted(visit, TEXT)
    assert page.inner_text("#live-play") == "Play"
    page.click("#live-again")
    page.click("#live-play")  # once more, from the start
    assert _finished(visit) == _predicted(visit, TEXT)


def test_a_link_restores_model_text_and_place(visit: Visit) -> None:
    page = visit.open(LINK)
    page.select_option("#live-model", "sentiment-gru")
    for _ in range(4):
        page.click("#live-step")
    page.wait_for_selector("#live-answer:has-text('“,”')")
    visit.until(lambda: "liveAt=" in page.url)
    before = _rows(page)
    other = visit.open(page.url.partition("/#")[2].join(["#", ""]))
    other.wait_for_selector("#live-answer:has-text('“,”')")
    assert other.input_value("#live-model") == "sentiment-gru"
    assert other.input_value("#live-text") == TEXT
    assert _rows(other) == before
    assert "update" in other.locator("#live-panels .panel-title").all_inner_texts()


def test_only_models_that_read_forward_are_offered(visit: Visit) -> None:
    page = visit.open("#live=1&liveModel=sentiment-bilstm")
    listed = visit.api.get("/models").json()["models"]
    forward = [each["name"] for each in listed if each["directions"] == ["forward"]]
    assert page.locator("#live-model option").all_inner_texts() == forward
    assert page.input_value("#live-model") == "sentiment-lstm"


def test_without_websockets_the_text_goes_by_post(visiting: Visiting, service: Process) -> None:
    visit = visiting(service)
    visit.expected = ("WebSocket",)
    visit.page.add_init_script("window.WebSocket = class { constructor() { throw new Error('none here') } }")
    page = visit.open(f"{LINK}&liveAt={len(TEXT)}")
    page.wait_for_selector("#live-notice:has-text('POST')")
    page.wait_for_selector("#live-answer:has-text('“wonderful”')")
    assert "tokens" in page.get_attribute("#live-forget", "aria-label")
    page.click("#live-finish")
    assert _finished(visit) == _predicted(visit, TEXT)


def test_a_lost_connection_is_made_again(visit: Visit) -> None:
    page = visit.page
    page.add_init_script(
        "const Real = WebSocket; window.sockets = [];"
        "window.WebSocket = class extends Real { constructor(...given) { super(...given); sockets.push(this) } }"
    )
    visit.open(f"{LINK}&liveAt=14")
    page.wait_for_selector("#live-answer:has-text('“,”')")
    page.evaluate("sockets.at(-1).close(4000)")  # as the page sees a connection that ends
    page.wait_for_selector("#live-notice:has-text('lost')")
    visit.until(lambda: page.evaluate("sockets.length") == 2)
    page.wait_for_selector("#live-answer:has-text('“,”')")
    page.click("#live-finish")
    assert _finished(visit) == _predicted(visit, TEXT)


def test_the_keyboard_and_a_narrow_screen(visiting: Visiting, served: Process) -> None:
    visit = visiting(served, viewport={"width": 360, "height": 740})
    page = visit.open(f"{LINK}&liveAt={len(TEXT)}")
    page.wait_for_selector("#live-answer:has-text('“wonderful”')")
    page.focus("#live-forget")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    spoken = page.inner_text("#live")
    assert spoken.startswith("token 1 “slow”, unit 1: forget ")
    value = visit.gates(model="sentiment-lstm", inputs=TEXT)["traces"][0]["layers"][0]["gates"]["forget"][1][1]
    assert float(spoken.rpartition(" ")[2]) == pytest.approx(value, abs=6e-4)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.focus("#live-play")
    page.keyboard.press("Enter")
    assert page.inner_text("#live-play") == "Pause"
    visit.picture("live-narrow")


def test_a_key_opens_the_stream(visiting: Visiting, start: Any) -> None:
    visit = visiting(start(env={"SERVICE_API_KEYS": "a-secret-key-1"}))
    visit.expected = ("401", "WebSocket")
    visit.page.add_init_script("sessionStorage.setItem('gatelight-api-key', 'a-secret-key-1')")
    context = visit.page.context
    context.set_extra_http_headers({})
    visit.page.set_extra_http_headers({"Authorization": "Bearer a-secret-key-1"})
    visit.page.goto(f"{visit.url}/")
    visit.page.set_extra_http_headers({})
    visit.page.evaluate(f"location.hash = {json.dumps(LINK[1:] + f'&liveAt={len(TEXT)}')}")
    visit.page.wait_for_selector("#live-answer:has-text('“wonderful”')")
