"""`WS /stream`: a text typed into a WebSocket, its limits, its end, and what it leaves behind."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket as sockets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from service.serving.streams import DROPS
from tests.integration.conftest import Process, Start, _starter
from tests.integration.document import document
from tests.integration.metrics import value
from tests.integration.streams import TEXT, cut, of, predicted, socket, stream, tokens, write_repository
from tests.integration.test_errors import problem
from tests.patience import PATIENCE


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    write_repository(folder)
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Process]:
    for start in _starter(tmp_path_factory.mktemp("service"), repository):
        yield start().until_ready()


def test_feedback_is_about_the_last_text_over_a_connection(service: Process) -> None:
    judged = []
    with stream(service, model="sentiment-lstm") as opened:
        for text in ("the film is great", "the film is bad"):
            opened.send(text=text, end=True)
            done = opened.until("done")[-1]
            for _ in range(2):
                said = {"request_id": done["request_id"], "label": done["prediction"]["label"]}
                judged.append(service.client.post("/feedback", json=said).json()["outcome"])
    assert judged == ["right", "repeated"] * 2


@pytest.mark.parametrize("model", ["sentiment-lstm", "sentiment-gru", "ner-gru"])
@pytest.mark.parametrize("pieces", [[TEXT], list(TEXT), cut(TEXT, 5)])
def test_the_last_answer_is_that_for_the_whole_text(service: Process, model: str, pieces: list[str]) -> None:
    with stream(service, model=model) as opened:
        for _ in range(2):  # the stream begins anew behind its end
            for piece in pieces:
                opened.send(text=piece)
            opened.send(end=True)
            events = opened.until("done")
            found = of("token", events)
            spans = [{name: event[name] for name in ("text", "start", "end")} for event in found]
            assert spans == tokens(service, model, TEXT)
            assert events[-1]["tokens"] == len(found)
            expected, prediction = predicted(service, model, TEXT), events[-1]["prediction"]
            if "scores" in expected:
                assert prediction["scores"] == pytest.approx(expected["scores"], abs=1e-5)
            else:
                assert [{**each, "score": 0} for each in prediction["entities"]] == [
                    {**each, "score": 0} for each in expected["entities"]
                ]


def test_a_token_is_sent_once_it_is_complete(service: Process) -> None:
    with stream(service, model="sentiment-lstm") as opened:
        opened.send(text="The fi")
        assert opened.receive()["text"] == "The"
        opened.send(text="lm, is")
        assert [opened.receive()["text"] for _ in range(2)] == ["film", ","]
        opened.send(tokens=None, text=" gr")
        assert opened.receive()["text"] == "is"
        opened.send(end=True)
        assert [event["type"] for event in opened.until("done")] == ["token", "done"]


def test_states_say_how_much_they_cover_and_go_on_elsewhere(service: Process) -> None:
    with stream(service, model="sentiment-lstm", state_every=3) as opened:
        for piece in cut(TEXT, 6):
            opened.send(text=piece)
        opened.send(end=True)
        events = opened.until("done")
    states = of("state", events)
    assert [state["t"] for state in states] == list(range(3, len(of("token", events)) + 1, 3))
    for state in random.Random(7).sample(states, 4):
        with stream(service, state=state["state"]) as opened:
            opened.send(text=TEXT[state["read"] :], end=True)
            later = opened.until("done")
        assert of("token", later) == [
            event | {"scores": pytest.approx(event["scores"], abs=1e-6)}
            for event in of("token", events)
            if event["t"] >= state["t"]
        ]
        assert later[-1]["prediction"]["scores"] == pytest.approx(events[-1]["prediction"]["scores"], abs=1e-6)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("no JSON", 400),
        ("[]", 422),
        (b"\x00\x01", 415),
        ('{"model": "sentiment-lstm"}', 422),  # a second opening
        ('{"text": 7}', 422),
        ('{"text": "a", "tokens": ["b"]}', 422),
        ('{"tokens": [""]}', 422),
        ('{"end": true}', 422),  # no token
        ('{"text": "\\ud800"}', 400),
    ],
)
def test_a_message_that_cannot_be_taken_is_told_and_the_stream_goes_on(
    service: Process, message: str | bytes, status: int
) -> None:
    with stream(service, model="sentiment-lstm") as opened:
        opened.connection.send(message)
        error = opened.receive()
        assert (error["type"], error["status"]) == ("error", status)
        opened.send(text="a film ", end=True)
        assert opened.until("done")[-1]["tokens"] == 2


def code_of(opened: Any) -> tuple[int, list[Any]]:
    """The code with which the service closes, and the messages before it."""
    found: list[Any] = []
    with pytest.raises(ConnectionClosed) as closed:
        found.extend(iter(opened.receive, None))
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, found


@pytest.mark.parametrize(
    ("opening", "status"),
    [
        ({"model": "sentiment-bilstm"}, 422),
        ({"model": "nobody"}, 404),
        ({"model": "sentiment-lstm", "gates": ["update"]}, 422),
        ({"model": "sentiment-lstm", "state": "AAAA"}, 422),
        ({"model": "sentiment-lstm", "nothing": 1}, 422),
        ({"text": "no opening"}, 422),
    ],
)
def test_an_opening_that_cannot_be_taken_closes_the_connection(
    service: Process, opening: dict[str, Any], status: int
) -> None:
    with socket(service) as opened:
        opened.send(**opening)
        code, messages = code_of(opened)
    assert (code, [message["status"] for message in messages]) == (1008, [status])


def test_too_many_wrong_messages_close_the_connection(service: Process) -> None:
    with stream(service, model="sentiment-lstm") as opened:
        for _ in range(17):
            opened.connection.send("wrong")
        code, messages = code_of(opened)
    assert (code, len(messages)) == (1008, 17)


def test_a_text_without_any_end_of_a_token_closes_the_connection(service: Process) -> None:
    with stream(service, model="sentiment-lstm") as opened:
        opened.send(text="\u200b" * 7000)
        assert code_of(opened)[0] == 1008


def test_a_message_over_the_limit_is_closed_with_1009(start: Start, repository: Path) -> None:
    process = start("--stream-bytes", "2048", models=repository).until_ready()
    with stream(process, model="sentiment-lstm") as opened:
        opened.send(text="a" * 300_000)
        code, messages = code_of(opened)
    assert (code, [message["status"] for message in messages]) == (1009, [413])
    assert messages[0]["detail"] == "Bytes of one message: 300012, the limit is 2048."


def test_what_is_no_handshake_for_a_stream_is_answered_as_http(service: Process) -> None:
    offer = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    assert service.client.get("/models", headers=offer | key).status_code == 200  # an offer elsewhere is ignored

    def counted() -> float:
        return value(service, "requests_total", route="/stream", method="GET", status="426")

    before = counted()
    for path in ("/stream", "/stream/"):
        for headers in ({}, offer, {"Upgrade": "h2c", "Connection": "Upgrade"}, key):
            answer = service.client.get(path, headers=headers)
            assert problem(answer, 426, "upgrade-required")["detail"].startswith("GET /stream opens a WebSocket")
            assert (answer.headers["Upgrade"], answer.headers["Connection"]) == ("websocket", "Upgrade")
    head = service.client.head("/stream")
    assert (head.status_code, head.headers["Upgrade"], head.content) == (426, "websocket", b"")
    assert counted() == before + 8


@pytest.mark.parametrize("method", ["DELETE", "OPTIONS", "PUT"])
def test_other_methods_of_a_stream_s_path_are_told_which_it_has(service: Process, method: str) -> None:
    answer = service.client.request(method, "/stream")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "GET, HEAD, POST"


def test_a_get_of_a_stream_wants_a_key_first(start: Start, repository: Path) -> None:
    process = start(models=repository, SERVICE_API_KEYS="secret").until_ready()
    problem(process.client.get("/stream"), 401, "unauthorized")
    problem(process.client.get("/stream", headers={"Authorization": "Bearer secret"}), 426, "upgrade-required")


def test_the_document_has_the_handshake_and_the_messages(service: Process) -> None:
    """What is sent and answered here is in the document: headers of the handshake, and each kind of message."""
    operation = document()["paths"]["/stream"]["get"]
    seen = set()
    classified: list[dict[str, Any]] = [{"tokens": ["a"]}, {"end": True}]
    tagged: list[dict[str, Any]] = [{"text": "Ada lived in London. "}, {"text": "She"}, {"end": True}]
    wrong: list[dict[str, Any]] = [{"text": "a", "tokens": []}, {"nothing": 1}]
    gates = {"model": "sentiment-lstm", "gates": ["forget"], "state_every": 1}
    for opening, pieces in ((gates, classified), ({"model": "ner-gru"}, [*tagged, *wrong])):
        with socket(service) as opened:
            assert opened.connection.response is not None
            answered = {name.lower() for name, _ in opened.connection.response.headers.raw_items()}
            described = operation["responses"]["101"]["headers"]
            assert {name.lower() for name, header in described.items() if header.get("required")} <= answered
            assert answered <= {name.lower() for name in described} | {"date"}
            validate_message("sent", opening)
            opened.send(**opening)
            events = [opened.receive()]
            for piece in pieces:
                opened.send(**piece)
                if piece.get("end"):
                    events += opened.until("done")
                elif piece in wrong:
                    events.append(opened.receive())
        for event in events:
            validate_message("answered", event)
        seen |= {event["type"] for event in events}
    known = {each["type"] for each in operation["x-websocket-messages"]["answered"]["examples"]}
    assert seen == known
    with pytest.raises(jsonschema_rs.ValidationError):
        validate_message("sent", {"nothing": 1})


def validate_message(side: str, message: Any) -> None:
    """Raises `ValidationError` for a message that is not in the API document."""
    sides = document()["paths"]["/stream"]["get"]["x-websocket-messages"]
    schema = {"anyOf": sides[side]["oneOf"], "components": document()["components"]}
    jsonschema_rs.Draft202012Validator(schema).validate(message)


OFFER = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
KEY, VERSION = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"Sec-WebSocket-Version: 13\r\n"


def shaken(service: Process, lines: bytes, behind: bytes = b"") -> bytes:
    """The first bytes of the answer to a handshake with these lines."""
    host, port = service.url.removeprefix("http://").split(":")
    with sockets.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n" + behind)
        return connection.recv(65_536)


@pytest.mark.parametrize(
    "lines",
    [
        OFFER + KEY,
        OFFER + KEY + VERSION.replace(b"13", b"8"),
        OFFER + KEY + VERSION + VERSION,
        OFFER + KEY + KEY + VERSION,
        OFFER + VERSION + b"Sec-WebSocket-Key: short\r\n",
        OFFER + VERSION + b"Sec-WebSocket-Key:\r\n",
    ],
)
def test_a_handshake_that_is_wrong_is_a_problem(service: Process, lines: bytes) -> None:
    head, _, body = shaken(service, lines).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert "Sec-WebSocket-Version, 13" in json.loads(body)["detail"]
    assert json.loads(body)["request_id"].encode() in head


@pytest.mark.parametrize(
    "lines",
    [
        OFFER + b"Connection: keep-alive\r\n",
        b"Connection: keep-alive\r\n" + OFFER,
        b"connection: keep-alive, UPGRADE\r\nupgrade: WebSocket \r\n",
    ],
)
def test_headers_of_a_handshake_may_come_in_several_lines(service: Process, lines: bytes) -> None:
    assert shaken(service, lines + KEY + VERSION).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("behind", [b"\x81\x05hello", b"\xff" * 20, b"\x81\xff" + b"\x7f" * 12])
def test_bytes_that_are_no_frames_behind_a_handshake_close_the_connection(service: Process, behind: bytes) -> None:
    before = service.output.count("Traceback")
    with suppress(ConnectionResetError):
        assert shaken(service, OFFER + KEY + VERSION, behind) == b""
    service.wait(lambda: value(service, "connections") <= 2)
    assert service.output.count("Traceback") == before


def test_a_handshake_takes_or_makes_the_id_of_its_request(service: Process) -> None:
    found = []
    for headers in ({"X-Request-ID": "my-own-7"}, {"X-Request-ID": "not one"}, None):
        with socket(service, headers) as opened:
            assert opened.connection.response is not None
            found += opened.connection.response.headers.get_all("X-Request-ID")
    assert found[0] == "my-own-7"
    assert re.fullmatch("([0-9a-f]{32}) ([0-9a-f]{32})", " ".join(found[1:]))
    service.says(f'"request_id":"{found[2]}"')


def test_pages_of_other_origins_are_kept_out(start: Start, service: Process, repository: Path) -> None:
    with pytest.raises(InvalidStatus) as refused, socket(service, {"Origin": "https://elsewhere.example"}):
        pass
    assert refused.value.response.status_code == 403
    assert b"cors_origins" in (refused.value.response.body or b"")
    assert "without completing handshake" not in service.output
    with stream(service, {"Origin": service.url}, model="sentiment-lstm"):
        pass
    other = start(models=repository, SERVICE_CORS_ORIGINS="https://elsewhere.example").until_ready()
    with stream(other, {"Origin": "https://elsewhere.example"}, model="sentiment-lstm"):
        pass


def test_keys_are_asked_for_in_a_header_or_in_the_opening_message(start: Start, repository: Path) -> None:
    process = start(models=repository, SERVICE_API_KEYS="secret").until_ready()
    with stream(process, {"Authorization": "Bearer secret"}, model="sentiment-lstm"):
        pass
    with stream(process, key="secret", model="sentiment-lstm"):
        pass
    for opening in ({"key": "wrong"}, {}):
        with socket(process) as opened:
            opened.send(model="sentiment-lstm", **opening)
            code, messages = code_of(opened)
        assert (code, messages[0]["status"]) == (1008, 401)
    with pytest.raises(InvalidStatus) as refused, socket(process, {"Authorization": "Bearer wrong"}):
        pass
    assert refused.value.response.status_code == 401


def test_no_more_streams_are_open_than_may_be_and_all_are_counted(start: Start, repository: Path) -> None:
    process = start("--max-streams", "3", models=repository).until_ready()
    alone = value(process, "connections")
    for _ in range(3):
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(stream(process, model="sentiment-lstm"))
            assert value(process, "streams") == 3
            assert value(process, "connections") == alone + 3
            with pytest.raises(InvalidStatus) as refused, socket(process):
                pass
            assert refused.value.response.status_code == 503
            assert "Retry-After" in refused.value.response.headers
        process.wait(lambda: value(process, "streams") == 0 and value(process, "connections") == alone)


def test_connections_that_became_sockets_count_among_the_limit(start: Start, repository: Path) -> None:
    process = start("--max-connections", "3", models=repository).until_ready()
    alone = value(process, "connections")
    for _ in range(5):  # today's is given back each time
        with stream(process, model="sentiment-lstm"):
            pass
        process.wait(lambda: value(process, "connections") == alone)


def test_a_silent_stream_is_closed(start: Start, repository: Path) -> None:
    process = start("--stream-idle-seconds", "1", models=repository).until_ready()
    with socket(process) as opened:
        opened.send(model="sentiment-lstm")
        opened.send(text="a film ")  # without waiting for an answer: this client must not be silent too early
        code, messages = code_of(opened)
    assert code == 1008
    assert [message["type"] for message in messages] == ["ready", "token", "token", "state", "error"]
    assert messages[-1]["status"] == 408
    assert dropped(process) == {"idle": 1}
    assert value(process, "stream_tokens_total") == 2


def test_a_client_that_does_not_read_is_cut(start: Start, repository: Path) -> None:
    process = start("--read-seconds", "0.5", "--stream-bytes", "65536", models=repository).until_ready()
    with stream(process, model="sentiment-lstm", gates=["forget", "cell", "hidden"]) as opened:
        raw = opened.connection.socket
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        with suppress(ConnectionClosed, OSError):
            for _ in range(200):
                opened.send(text="a film " * 400)
        process.wait(lambda: value(process, "refusals_total", reason="slow-reader") >= 1)
        process.wait(lambda: value(process, "streams") == 0 and value(process, "stream_waiting_bytes") == 0)
        assert dropped(process) == {"gone": 1}


def dropped(process: Process) -> dict[str, float]:
    """The streams that a service has ended, by reason."""
    found = {reason: value(process, "dropped_streams_total", reason=reason) for reason in DROPS}
    return {reason: count for reason, count in found.items() if count}


def test_streams_that_end_early_are_counted_by_reason(start: Start, repository: Path) -> None:
    process = start("--workers", "2", "--stream-rate", "10", models=repository).until_ready()
    process.wait(lambda: value(process, "ready") == 2)
    with stream(process, model="sentiment-lstm") as opened:
        opened.send(text="a film was good", end=True)
        assert opened.until("done")[-1]["tokens"] == 4
    process.wait(lambda: value(process, "stream_tokens_total") == 4)
    process.wait(lambda: value(process, "streams") == 0)
    assert dropped(process) == {}  # a client that goes when its text has ended was not dropped
    with stream(process, model="sentiment-lstm") as opened:
        opened.send(text="\u200b" * 7000)  # no token ends in it
        assert code_of(opened)[0] == 1008
    process.wait(lambda: dropped(process) == {"failed": 1})
    with stream(process, model="sentiment-lstm") as opened:
        opened.send(text="film " * 4000)  # 400 seconds at this rate
        opened.until("token")
        opened.connection.socket.shutdown(sockets.SHUT_RDWR)
    process.wait(lambda: dropped(process) == {"failed": 1, "gone": 1})
    with stream(process, model="sentiment-lstm") as opened:
        for worker in children(process):
            os.kill(worker, signal.SIGTERM)
        assert code_of(opened)[0] == 1012
    process.wait(lambda: dropped(process) == {"failed": 1, "gone": 1, "shutdown": 1})


def test_no_extension_is_negotiated(service: Process) -> None:
    """Compression in particular: it would hold memory for each stream, and small messages could swell."""
    with stream(service, model="sentiment-lstm") as opened:
        connection = opened.connection
        assert connection.request is not None
        assert connection.response is not None
        assert "permessage-deflate" in connection.request.headers["Sec-WebSocket-Extensions"]
        assert "Sec-WebSocket-Extensions" not in connection.response.headers
        assert connection.protocol.extensions == []
        connection.socket.sendall(b"\xc1\x82" + bytes(4) + b"{}")  # the first bit of an extension is set
        assert code_of(opened) == (1002, [])


def test_a_shutdown_ends_streams_with_their_state(start: Start, repository: Path) -> None:
    first = start(models=repository, SERVICE_STATE_KEY="shared").until_ready()
    second = start(models=repository, SERVICE_STATE_KEY="shared").until_ready()
    with stream(first, model="sentiment-lstm") as opened, stream(first, model="sentiment-gru") as idle:
        opened.send(text=TEXT[:60])
        opened.until("token")
        first.signal(signal.SIGTERM)
        ends = {"sentiment-lstm": (60, code_of(opened)), "sentiment-gru": (0, code_of(idle))}  # one had read nothing
    assert first.exit_status() == 0
    for model, (read, (code, messages)) in ends.items():
        state = messages[-1]
        assert (code, state["type"], state["read"]) == (1012, "state", read)
        with stream(second, state=state["state"]) as opened:
            opened.send(text=TEXT[read:], end=True)
            done = opened.until("done")[-1]
        assert done["prediction"]["scores"] == pytest.approx(predicted(second, model, TEXT)["scores"], abs=1e-5)


def test_a_killed_worker_is_a_lost_connection_and_the_last_state_is_good_in_another(
    start: Start, repository: Path
) -> None:
    process = start("--workers", "2", models=repository).until_ready()
    with stream(process, model="sentiment-lstm", state_every=1) as opened:
        opened.send(text=TEXT[:80])
        state = opened.until("state")[-1]
        for worker in children(process):
            os.kill(worker, signal.SIGKILL)
        with suppress(ConnectionClosed):
            for message in iter(opened.receive, None):
                state = message if message["type"] == "state" else state
    process.wait(lambda: _is_ready(process))
    with stream(process, state=state["state"]) as opened:
        opened.send(text=TEXT[state["read"] :], end=True)
        prediction = opened.until("done")[-1]["prediction"]
    assert prediction["scores"] == pytest.approx(predicted(process, "sentiment-lstm", TEXT)["scores"], abs=1e-5)


def children(process: Process) -> list[int]:
    """The process ids of a supervisor's workers."""
    number = process.process.pid
    return list(map(int, Path(f"/proc/{number}/task/{number}/children").read_text(encoding="utf-8").split()))


def _is_ready(process: Process) -> bool:
    with suppress(httpx.TransportError):
        return process.client.get("/health/ready").status_code == 200
    return False


def test_a_stream_is_read_no_faster_than_its_rate(start: Start, repository: Path) -> None:
    process = start("--stream-rate", "50", models=repository).until_ready()
    started = time.monotonic()
    with stream(process, model="sentiment-lstm") as opened:
        opened.send(text="film " * 100, end=True)
        assert opened.until("done")[-1]["tokens"] == 100
    assert time.monotonic() - started > 0.8  # 50 at once, 50 in a second


def test_random_scripts_of_messages_leave_nothing_behind(service: Process) -> None:
    """A short form: `python -m benchmarks.streams --scripts 10000 URL` is the long one."""
    from benchmarks.stream_counts import counts, left
    from benchmarks.stream_scripts import play

    service.wait(lambda: value(service, "streams") == 0 and value(service, "connections") <= 2)  # of other tests
    before = counts(service.url)
    outcomes = [play(service.url, seed) for seed in range(60)]
    assert any(outcomes)
    assert left(service.url, before, PATIENCE) == {}
    assert "unexpected error" not in service.output


def test_streams_and_predictions_run_side_by_side(service: Process) -> None:
    """Many at once: each stream and each request has its own answer."""
    found: dict[int, Any] = {}
    together = threading.Barrier(12, timeout=PATIENCE)

    def follow(number: int) -> None:
        text = f"the film number {number} was " + "very " * (number % 5) + "good"
        asked = []
        with stream(service, model="sentiment-lstm") as opened:
            together.wait()  # all are open, and each asks while it has a piece under way
            for piece in cut(text, number):
                opened.send(text=piece)
                asked.append(predicted(service, "sentiment-lstm", text))
            opened.send(end=True)
            found[number] = (text, opened.until("done")[-1]["prediction"], asked)

    threads = [threading.Thread(target=follow, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(found) == 12
    for text, prediction, asked in found.values():
        alone = predicted(service, "sentiment-lstm", text)["scores"]
        assert prediction["scores"] == pytest.approx(alone, abs=1e-5)
        assert [each["scores"] for each in asked] == [pytest.approx(alone, abs=1e-5)] * len(asked)
        assert asked
