"""Sequences over `/v2`: a text in pieces whose state stays in the service, whichever worker reads."""

from __future__ import annotations

import fcntl
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.conftest import Process, Start, _starter
from tests.integration.metrics import value
from tests.integration.streams import TEXT, cut, predicted, write_repository
from tests.patience import PATIENCE, until


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    write_repository(folder)
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Process]:
    for start in _starter(tmp_path_factory.mktemp("service"), repository):
        yield start("--workers", "2").until_ready()


def infer(service: Process, number: Any, text: str, model: str = "sentiment-lstm", **parameters: Any) -> httpx.Response:
    body = {
        "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}],
        "parameters": {"sequence_id": number, **parameters},
    }
    return httpx.post(
        f"{service.url}/v2/models/{model}/infer", json=body, timeout=PATIENCE
    )  # each on a connection of its own


def outputs(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


def read(service: Process, number: Any, pieces: list[str], model: str = "sentiment-lstm") -> list[dict[str, Any]]:
    last = len(pieces) - 1
    return [
        outputs(infer(service, number, piece, model, sequence_start=at == 0, sequence_end=at == last))
        for at, piece in enumerate(pieces)
    ]


@pytest.mark.parametrize("number", [7, "7", -1, 2**63 - 1, "a text of its own"])
def test_the_last_answer_is_that_for_the_whole_text(service: Process, number: Any) -> None:
    last = read(service, number, cut(TEXT, 8))[-1]
    expected = predicted(service, "sentiment-lstm", TEXT)
    assert last["label"] == [expected["label"]]
    assert last["score"] == pytest.approx([expected["score"]], abs=1e-5)


def test_a_key_with_escaped_letters_names_a_sequence_too(service: Process) -> None:
    body = (
        '{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["the film "]}],'
        ' "parameters": {"%s": 22, "sequence_start": %s}}'
    )
    for key, start in (("sequence_id", "true"), (r"sequence\u005fid", "false"), (r"\u0073equence_id", "false")):
        content, headers = body % (key, start), {"content-type": "application/json"}
        answer = httpx.post(
            f"{service.url}/v2/models/sentiment-lstm/infer", content=content, headers=headers, timeout=PATIENCE
        )
        assert answer.json()["parameters"]["sequence_id"] == 22, key
    whole = read(service, 23, ["the film "] * 3 + [""])[-1]
    assert outputs(infer(service, 22, "", sequence_end=True)) == whole


def test_a_tagger_s_labels_come_as_they_are_settled(service: Process) -> None:
    answers = read(service, 1, cut(TEXT, 9), "ner-gru")
    whole = predicted(service, "ner-gru", TEXT, tokens=True)["tokens"]
    found = [token for answer in answers for token in zip(answer["label"], answer["start"], answer["end"], strict=True)]
    assert found == [(token["label"], token["start"], token["end"]) for token in whole]


def test_the_end_of_a_sequence_is_open_to_feedback(service: Process) -> None:
    begun = infer(service, 21, "the film ", sequence_start=True)
    ended = infer(service, 21, "is great", sequence_end=True)
    statuses = [
        httpx.post(
            f"{service.url}/feedback",
            json={"request_id": answer.headers["x-request-id"], "label": "positive"},
            timeout=PATIENCE,
        ).status_code
        for answer in (begun, ended)
    ]
    assert statuses == [404, 202]


def test_many_sequences_do_not_mix(service: Process) -> None:
    texts = {number: f"the film {number} was " + "very " * number + "good" for number in range(1, 9)}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: read(service, number, cut(texts[number], number))[-1], texts))
    for number, answer in zip(texts, found, strict=True):
        expected = predicted(service, "sentiment-lstm", texts[number])
        assert answer["score"] == pytest.approx([expected["score"]], abs=1e-5)


WRONG = "/parameters/sequence_id: Input should be a whole number within int64, or a text"


@pytest.mark.parametrize("number", [0, ""])
def test_no_number_is_no_sequence(service: Process, number: Any) -> None:
    for _ in range(2):
        assert outputs(infer(service, number, "a film", sequence_start=True))["lengths"] == [2]


@pytest.mark.parametrize(
    ("number", "parameters", "detail"),
    [
        (99, {}, "no open sequence 99"),
        (99, {"sequence_end": True}, "no open sequence 99"),
        (True, {"sequence_start": True}, f"{WRONG}, not true."),
        (2**63, {"sequence_start": True}, f"{WRONG}, not 9223372036854775808."),
        (-(2**63), {}, f"no open sequence {-(2**63)}"),
        (1.5, {"sequence_start": True}, f"{WRONG}, not 1.5."),
        ([7], {"sequence_start": True}, f"{WRONG}, not a list."),
    ],
)
def test_a_sequence_that_cannot_be_is_refused(
    service: Process, number: Any, parameters: dict[str, Any], detail: str
) -> None:
    answer = infer(service, number, "a film", **parameters)
    assert answer.status_code == 422
    assert detail in answer.json()["error"]


def test_a_number_that_is_open_is_not_begun_again(service: Process) -> None:
    outputs(infer(service, 5, "the film ", sequence_start=True))
    answer = infer(service, 5, "x", sequence_start=True)
    assert (answer.status_code, "is open already" in answer.json()["error"]) == (422, True)
    assert outputs(infer(service, "5", "a ", sequence_start=True))["lengths"] == [1]  # another than 5
    assert outputs(infer(service, 5, "is", sequence_end=True))["lengths"] == [3]
    assert infer(service, 5, "x").status_code == 422
    outputs(infer(service, "5", "b", sequence_end=True))


def test_a_piece_that_is_not_read_within_its_timeout_changes_nothing(service: Process) -> None:
    late: dict[str, Any] = {"timeout": 1}  # microseconds
    answer = infer(service, 31, "good " * 20_000, sequence_start=True, **late)
    assert (answer.status_code, "deadline" in answer.json()["error"]) == (504, True)
    assert infer(service, 31, "x").status_code == 422  # it was not begun
    outputs(infer(service, 31, "the film ", sequence_start=True, timeout=0))
    assert infer(service, 31, "good " * 20_000, **late).status_code == 504
    assert outputs(infer(service, 31, "is", sequence_end=True))["lengths"] == [3]


def test_a_first_request_that_fails_leaves_nothing(service: Process) -> None:
    answer = infer(service, 6, "x", "sentiment-bilstm", sequence_start=True)
    assert (answer.status_code, "These read forward" in answer.json()["error"]) == (422, True)
    assert answer.json()["error"].startswith("sentiment-bilstm reads backward")  # the path has the model, no field
    answer = infer(service, 6, " ", sequence_start=True, sequence_end=True)
    assert (answer.status_code, answer.json()["error"][:17]) == (422, "/inputs/0/data/0:")
    assert outputs(infer(service, 6, "x", sequence_start=True, sequence_end=True))["lengths"] == [1]


def test_the_end_of_a_text_without_a_token_ends_the_sequence(service: Process) -> None:
    outputs(infer(service, 8, " ", sequence_start=True))
    answer = infer(service, 8, "\n", sequence_end=True)
    assert (answer.status_code, "holds no token" in answer.json()["error"]) == (422, True)
    assert outputs(infer(service, 8, "x", sequence_start=True, sequence_end=True))["lengths"] == [1]


def test_sequences_are_bounded_in_number(start: Start, repository: Path) -> None:
    process = start("--max-sequences", "2", models=repository).until_ready()
    for number in (1, 2):
        outputs(infer(process, number, "a ", sequence_start=True))
    assert value(process, "sequences") == 2
    assert infer(process, 3, "a ", sequence_start=True).status_code == 503


def test_sequences_are_bounded_in_silence(start: Start, repository: Path) -> None:
    process = start("--max-sequences", "1", "--sequence-seconds", "1", models=repository).until_ready()
    outputs(infer(process, 1, "a ", sequence_start=True))
    process.wait(lambda: infer(process, 3, "a ", sequence_start=True).status_code == 200)  # the first is dropped
    assert infer(process, 1, "b").status_code == 422


def test_tritonclient_sends_sequences(service: Process) -> None:
    triton = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    np = pytest.importorskip("numpy", reason="numpy is not installed")
    client = triton.InferenceServerClient(service.url.removeprefix("http://"))
    pieces = ["The film was gr", "eat, and", " good."]
    for at, piece in enumerate(pieces):
        tensor = triton.InferInput("text", [1], "BYTES").set_data_from_numpy(np.array([piece.encode()], np.object_))
        answer = client.infer(
            "sentiment-lstm", [tensor], sequence_id=42, sequence_start=at == 0, sequence_end=at == len(pieces) - 1
        )
    client.close()
    expected = predicted(service, "sentiment-lstm", "".join(pieces))
    assert answer.as_numpy("label").tolist() == [expected["label"].encode()]
    assert answer.as_numpy("score").tolist() == pytest.approx([expected["score"]], abs=1e-5)


def test_what_a_killed_service_leaves_in_shared_memory_goes_with_the_next_start(start: Start, repository: Path) -> None:
    process = start("--workers", "2", models=repository).until_ready()
    outputs(infer(process, 5, "a film ", sequence_start=True))
    folder = _folder(process)
    assert len(list(folder.iterdir())) == 2
    process.signal(signal.SIGKILL)
    process.exit_status()
    until(lambda: not _is_held(folder))  # the workers end when their supervisor has gone
    last = start(models=repository).until_ready()
    assert not folder.exists()
    own = _folder(last)
    outputs(infer(last, 5, "a film ", sequence_start=True))
    last.signal()
    assert last.exit_status() == 0
    assert not own.exists()


def _folder(process: Process) -> Path:
    """The folder of a service's sequences."""
    held: set[Path] = set()
    for each in Path(f"/proc/{process.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            held |= {path for path in (each.readlink(),) if path.name == ".held"}
    (file,) = held
    return file.parent


def _is_held(folder: Path) -> bool:
    try:
        with (folder / ".held").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # another service began meanwhile
        return False
    return False
