"""A browser's own clients of streams: its WebSocket, and server-sent events that its fetch reads as they come."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Visit

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "streams.md").read_text(encoding="utf-8")

TEXT = "Ada Lovelace met Charles Babbage in London.  It was a wonderful 👩‍👩‍👧 day, e\u0301 &amp; all.\nNot bad!"
CUTS = (0, 2, 3, 17, 38, 44, 46, 66, 70, 79, len(TEXT))
"""Within words, spaces and an HTML entity. No cut parts the two halves of a character: JSON cannot carry one alone."""
PIECES = [TEXT[start:end] for start, end in itertools.pairwise(CUTS)]
MODELS = ("sentiment-lstm", "ner-lstm")

_SOCKET = """([opening, pieces]) => new Promise((resolve, reject) => {
    const url = new URL("/stream", location.href);
    url.protocol = "ws:";
    const socket = new WebSocket(url);
    const events = [];
    socket.onopen = () => {
        socket.send(JSON.stringify(opening));
        for (const text of pieces) socket.send(JSON.stringify({ text }));
        socket.send(JSON.stringify({ end: true }));
    };
    socket.onmessage = ({ data }) => {
        events.push(JSON.parse(data));
        if (["done", "error"].includes(events.at(-1).type)) socket.close(1000);
    };
    socket.onclose = ({ code }) => (code === 1000 ? resolve(events) : reject(new Error(`closed ${code}`)));
})"""

_FETCH = """async ([opening, pieces]) => {
    const every = [], types = [];
    let state = null;
    for (const [number, text] of pieces.entries()) {
        const response = await fetch("/stream", {
            method: "POST",
            headers: { Accept: "text/event-stream", "Content-Type": "application/json" },
            body: JSON.stringify({ ...opening, text, state, end: number === pieces.length - 1 }),
        });
        if (!response.ok) throw new Error(await response.text());
        types.push(response.headers.get("Content-Type"));
        let rest = "";
        for (const reader = response.body.pipeThrough(new TextDecoderStream()).getReader(); ; ) {
            const { done, value } = await reader.read();
            if (done) break;
            const blocks = (rest + value).split("\\n\\n");
            rest = blocks.pop();
            for (const block of blocks) {
                const [event, data] = block.split("\\n").map((line) => line.slice(line.indexOf(": ") + 2));
                every.push(JSON.parse(data));
                if (every.at(-1).type !== event) throw new Error(`${event} is not ${data}`);
                if (event === "state") state = every.at(-1).state;
            }
        }
        if (rest) throw new Error(`cut off: ${rest}`);
    }
    return [every, types];
}"""


def _check(visit: Visit, model: str, events: list[dict[str, Any]]) -> None:
    """Hold the events of a whole text against `/predict` of it, and its gates against `/gates`."""
    answer = visit.api.post("/predict", json={"model": model, "inputs": TEXT}).raise_for_status().json()
    wanted, found = answer["predictions"][0], events[-1]
    assert found["type"] == "done"
    assert found["prediction"].keys() == wanted.keys()
    if "scores" in wanted:
        assert found["prediction"]["label"] == wanted["label"]
        assert found["prediction"]["scores"] == pytest.approx(wanted["scores"], abs=1e-5)
    else:
        places = ("label", "text", "start", "end", "token_start", "token_end")
        assert wanted["entities"]
        assert [[each[name] for name in places] for each in found["prediction"]["entities"]] == [
            [each[name] for name in places] for each in wanted["entities"]
        ]
    tokens = [event for event in events if event["type"] == "token"]
    trace = visit.gates(model=model, inputs=TEXT, gates=["forget"], units=[0, 1])["traces"][0]
    assert [(each["text"], each["start"], each["end"]) for each in tokens] == [
        (each["text"], each["start"], each["end"]) for each in trace["tokens"]
    ]
    assert found["tokens"] == len(tokens)
    rows = [each["gates"]["0"]["forget"] for each in tokens]
    for row, expected in zip(rows, trace["layers"][0]["gates"]["forget"], strict=True):
        assert row == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_a_browsers_websocket_reads_what_predict_answers(visit: Visit, model: str) -> None:
    page = visit.open()
    opening = {"model": model, "gates": ["forget"], "layers": [0], "units": [0, 1]}
    events = page.evaluate(_SOCKET, [opening, PIECES])
    assert events[0] == {**events[0], "type": "ready", "model": model, "cell": "lstm"}
    _check(visit, model, events)


@pytest.mark.parametrize("model", MODELS)
def test_a_browsers_fetch_reads_server_sent_events(visit: Visit, model: str) -> None:
    page = visit.open()
    opening = {"model": model, "gates": ["forget"], "layers": [0], "units": [0, 1]}
    events, types = page.evaluate(_FETCH, [opening, PIECES])
    assert {each.partition(";")[0] for each in types} == {"text/event-stream"}
    assert [each["type"] for each in events].count("ready") == len(PIECES)  # each request is a stream of its own
    _check(visit, model, events)


def test_a_browser_is_told_why_a_stream_does_not_open(visit: Visit) -> None:
    page = visit.open()
    script = _SOCKET.replace("code === 1000 ?", "code === 1000 || code === 1008 ?")
    events = page.evaluate(script, [{"model": "sentiment-bilstm"}, []])
    assert [(event["type"], event["status"]) for event in events] == [("error", 422)]
    assert "sentiment-lstm" in events[0]["detail"]


def snippet(visit: Visit, first: str) -> str:
    """A block of the page on streams, by its first word, for the service of this visit. It runs as it stands there."""
    (code,) = re.findall(rf"^```text\n({first} .*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert code.count("127.0.0.1:8000") == 1
    return f"(async () => {{\n{code.replace('127.0.0.1:8000', visit.url.removeprefix('http://'))}\n}})()"


class Logged:
    """What a page's scripts write with `console.log`, in order."""

    def __init__(self, page: Any) -> None:
        self._handles: list[Any] = []
        page.on("console", lambda message: self._handles.extend(message.args[:1] if message.type == "log" else []))

    @property
    def values(self) -> list[Any]:
        # Not taken when a message comes: a question to the browser lets later messages overtake this one.
        return [handle.json_value() for handle in self._handles]


def scores(visit: Visit, text: str) -> Any:
    """What `/predict` says of the whole text, to the accuracy of a stream."""
    body = {"model": "sentiment-lstm", "inputs": text}
    answer = visit.api.post("/predict", json=body).raise_for_status().json()
    return pytest.approx(answer["predictions"][0]["scores"], abs=1e-5)


def test_the_websocket_of_the_page_on_streams_runs(visit: Visit) -> None:
    page = visit.open()
    page.evaluate(
        """() => document.body.prepend(
            Object.assign(document.createElement("input"), { id: "box" }),
            Object.assign(document.createElement("button"), { id: "finish", textContent: "Finish" }),
        )"""
    )
    logged = Logged(page)
    page.evaluate(snippet(visit, "const socket"))
    visit.until(lambda: [event["type"] for event in logged.values] == ["ready"])
    box = page.locator("#box")
    box.press_sequentially("Not badd")
    box.press("Backspace")  # it was sent, and stays read; a deletion sends nothing
    box.press_sequentially(" at all, ")
    page.keyboard.insert_text("👩‍👩‍👧 e\u0301 &amp; 我!")  # as it is pasted, or comes from an input method
    page.click("#finish")
    visit.until(lambda: logged.values[-1]["type"] == "done")
    events = logged.values
    text = "Not badd at all, 👩‍👩‍👧 e\u0301 &amp; 我!"
    assert {event["type"] for event in events} == {"ready", "token", "done"}
    assert [event["text"] for event in events if event["type"] == "token"][:5] == ["Not", "badd", "at", "all", ","]
    assert events[-1]["prediction"]["scores"] == scores(visit, text)


def test_the_fetch_of_the_page_on_streams_runs(visit: Visit) -> None:
    page = visit.open()
    logged = Logged(page)
    page.evaluate(snippet(visit, "const answer"))
    visit.until(lambda: re.search(r"event: done\n.*\n\n$", "".join(logged.values)))
    blocks = "".join(logged.values).removesuffix("\n\n").split("\n\n")
    events = [json.loads(block.partition("\ndata: ")[2]) for block in blocks]
    assert [event["type"] for event in events] == ["ready", *["token"] * 5, "done"]
    assert events[-1]["prediction"]["scores"] == scores(visit, "The film is great.")
