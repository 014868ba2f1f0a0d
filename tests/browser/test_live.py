"""Live reading: typing, playing and stepping move the answer and the gates; links, keyboard and other ways go on."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from benchmarks.serving import free_port
from tests.browser.conftest import Visit, Visiting
from tests.integration.conftest import ROOT, Process

TEXT = "A slow start, but a wonderful end."
LINK = f"#live=1&liveModel=sentiment-lstm&liveText={quote(TEXT)}"


def _rows(page: Any) -> list[list[str]]:
    """The table of answers: number, text, answer."""
    details = "#stream details.behind"
    if page.locator(f"{details}[open]").count():
        page.click(f"{details} > summary")
    page.click(f"{details} > summary")
    page.locator(f"{details} tbody tr").first.wait_for()  # the page fills it a moment after the click
    rows: list[list[str]] = page.eval_on_selector_all(
        f"{details} tbody tr", "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"
    )
    return rows


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
    visit.page.add_init_script(_SPY)
    page = visit.open(LINK)
    page.click("#live-step")
    page.wait_for_selector("#live-answer:has-text('“A”')")
    page.click("#live-step")
    page.wait_for_selector("#live-answer:has-text('“slow”')")
    assert [row[1] for row in _rows(page)] == ["A", "slow"]
    page.select_option("#live-pace", "slow")
    page.click("#live-play")
    assert page.inner_text("#live-play") == "Pause"
    visit.until(lambda: "“slow”" not in page.inner_text("#live-answer"))
    page.click("#live-play")
    assert page.get_attribute("#live-play", "aria-pressed") == "false"
    count = page.evaluate("sent.length")
    visit.pause(1000)  # longer than between two words at the slow pace
    assert page.evaluate("sent.length") == count
    page.select_option("#live-pace", "fast")
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
    page.wait_for_selector("#live-answer:has-text('“but”')")
    visit.until(lambda: f"liveAt={len('A slow start, but ')}" in page.url)  # the address of the last step
    before = _rows(page)
    other = visit.open(page.url.partition("/#")[2].join(["#", ""]))
    other.wait_for_selector("#live-answer:has-text('“but”')")
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


_SPY = (
    "const Real = WebSocket; window.sockets = []; window.sent = []; window.notices = [];"
    "window.WebSocket = class extends Real {"
    "constructor(...given) { super(...given); sockets.push(this) }"
    "send(data) { sent.push(JSON.parse(data)); super.send(data) } };"
    "addEventListener('DOMContentLoaded', () => new MutationObserver(() =>"
    "notices.push(document.querySelector('#live-notice:not([hidden])')?.textContent ?? ''))"
    ".observe(document.body, { subtree: true, childList: true, attributes: true }));"
)
"""Keeps the page's sockets, the messages that it sends, and its notices, which may have gone when the test looks."""


def test_a_lost_connection_is_made_again(visit: Visit) -> None:
    page = visit.page
    page.add_init_script(_SPY)
    visit.open(f"{LINK}&liveAt=14")
    page.wait_for_selector("#live-answer:has-text('“,”')")
    page.evaluate("sockets.at(-1).close(4000)")  # as the page sees a connection that ends
    visit.until(lambda: page.evaluate("notices.some((notice) => notice.includes('lost'))"))
    visit.until(lambda: page.evaluate("sockets.length") == 2)
    page.wait_for_selector("#live-notice", state="hidden")
    page.wait_for_selector("#live-answer:has-text('“,”')")
    assert [row[1] for row in _rows(page)] == ["A", "slow", "start", ","]
    page.click("#live-finish")
    assert _finished(visit) == _predicted(visit, TEXT)


@pytest.mark.parametrize("same_key", [True, False])
def test_a_stream_goes_on_after_a_restart(visiting: Visiting, start: Any, same_key: bool) -> None:
    # The page gives up after half a minute: few small models are there in a fraction of it.
    port = str(free_port())
    first = start("--port", port, SERVICE_STATE_KEY="a-key-of-the-first-service").until_ready()
    visit = visiting(first)
    visit.expected = ("WebSocket", "ERR_", "Failed to load")
    page = visit.page
    page.add_init_script(_SPY)
    text = "A 👩‍👩‍👧 slow start, but a wonderful end."
    read = len("A 👩‍👩‍👧 slow st".encode("utf-16-le")) // 2
    visit.open(f"#live=1&liveModel=sentiment-lstm&liveText={quote(text)}&liveAt={read}")
    page.wait_for_selector("#live-answer:has-text('“slow”')")
    first.signal()
    page.wait_for_selector("#live-notice:has-text('lost')")
    first.exit_status()
    page.click("#live-step")  # kept until there is a connection
    key = "a-key-of-the-first-service" if same_key else "another-key-of-the-next"
    start("--port", port, SERVICE_STATE_KEY=key).until_ready()
    page.wait_for_selector("#live-notice", state="hidden")
    page.wait_for_selector("#live-answer:has-text('“,”')")
    assert [row[1] for row in _rows(page)] == ["A", "👩‍👩‍👧", "slow", "start", ","]
    messages = page.evaluate("sent")
    assert [message for message in messages if "state" in message]
    pieces = [message["text"] for message in messages if "text" in message]
    assert pieces == ["A 👩‍👩‍👧 slow st", "art, "] if same_key else ["A 👩‍👩‍👧 slow st", "A 👩‍👩‍👧 slow start, "]
    page.click("#live-finish")
    assert _finished(visit) == _predicted(visit, text)


def test_a_silent_stream_goes_on_with_the_next_word(visiting: Visiting, start: Any) -> None:
    visit = visiting(start("--stream-idle-seconds", "1", models=ROOT / "models").until_ready())
    page = visit.page
    page.add_init_script(_SPY)
    visit.open(f"{LINK}&liveAt=7")
    page.wait_for_selector("#live-answer:has-text('“slow”')")
    visit.until(lambda: page.evaluate("sockets.at(-1).readyState") == 3)
    assert page.is_hidden("#live-notice")
    page.click("#live-step")
    page.wait_for_selector("#live-answer:has-text('“,”')")
    assert [row[1] for row in _rows(page)] == ["A", "slow", "start", ","]
    assert [message["text"] for message in page.evaluate("sent") if "text" in message] == [TEXT[:7], TEXT[7:14]]
    page.click("#live-finish")
    assert _finished(visit) == _predicted(visit, TEXT)


class _Between:
    """Stands between a page and the service. On the first connection the page learns that its stream has ended in
    silence only after it has sent a piece more, which the service does not get."""

    def __init__(self) -> None:
        self.connections = 0
        self._taken = 0
        self._unread = False
        self._last: list[str] = []

    def __call__(self, socket: Any) -> None:
        service = socket.connect_to_server()
        self.connections += 1
        if self.connections > 1:
            return

        def from_page(message: str) -> None:
            self._taken += 1
            if self._taken <= 2:  # the opening, and the piece that the link asks for
                service.send(message)
            else:
                self._unread = True
                self._tell(socket)

        def from_service(message: str) -> None:
            if json.loads(message)["type"] in ("state", "error"):
                self._last.append(message)
                self._tell(socket)
            else:
                socket.send(message)

        socket.on_message(from_page)
        service.on_message(from_service)
        service.on_close(lambda code, reason: None)

    def _tell(self, socket: Any) -> None:
        if self._unread and len(self._last) == 2:
            for message in self._last:
                socket.send(message)
            self._last.clear()


@pytest.mark.parametrize("button", ["step", "finish"])
def test_a_piece_that_meets_the_end_of_a_silent_stream_is_sent_again(
    visiting: Visiting, start: Any, button: str
) -> None:
    visit = visiting(start("--stream-idle-seconds", "1", models=ROOT / "models").until_ready())
    page, between = visit.page, _Between()
    page.route_web_socket("**/stream", between)
    visit.open(f"{LINK}&liveAt=7")
    page.wait_for_selector("#live-answer:has-text('“slow”')")
    page.click(f"#live-{button}")
    visit.until(lambda: between.connections == 2)
    if button == "step":
        page.wait_for_selector("#live-answer:has-text('“,”')")
        assert [row[1] for row in _rows(page)] == ["A", "slow", "start", ","]
        page.click("#live-finish")
    assert _finished(visit) == _predicted(visit, TEXT)


def test_the_keyboard_and_a_narrow_screen(visiting: Visiting, served: Process) -> None:
    visit = visiting(served, viewport={"width": 360, "height": 740})
    page = visit.open(f"{LINK}&liveAt={len(TEXT)}")
    page.wait_for_selector("#live-answer:has-text('“wonderful”')")
    page.wait_for_selector("#live:has-text('wonderful')", state="attached")  # a second later
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


@pytest.mark.parametrize("known", [True, False])
def test_a_key_opens_the_stream(visiting: Visiting, start: Any, known: bool) -> None:
    """The key that was given to the page, or that of the browser's own sign-in."""
    key = "a-key-for-people-in-browsers"
    process = start(SERVICE_API_KEYS=key, models=ROOT / "models").until_ready()
    visit = visiting(process, http_credentials={"username": "me", "password": key})
    visit.expected = ("status of 401", "WebSocket")
    if known:
        visit.page.add_init_script(f"sessionStorage.setItem('gatelight-api-key', {json.dumps(key)})")
    page = visit.open(f"{LINK}&liveAt={len(TEXT)}")
    page.wait_for_selector("#live-answer:has-text('“wonderful”')")
    page.click("#live-finish")
    page.wait_for_selector("#live-answer:has-text('Whole text')")
    assert key not in process.output
