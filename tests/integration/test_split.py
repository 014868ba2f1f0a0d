"""`split`: a tagger reads raw text sentence by sentence, over every route."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load

from service.client import Client
from service.http.schemas.responses import Traces
from tests.integration.conftest import ROOT, Process

triton = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")

SENTENCES = ["Ada Lovelace lived in London.", "She met Mr. Babbage", "Paris is old, and so is London!", "Bye"]
TEXT = "Ada Lovelace lived in London. She met Mr. Babbage\n\nParis is old, and so is London!\nBye"
STARTS = [TEXT.index(sentence) for sentence in SENTENCES]
MODEL = "ner-bilstm"


def post(client: httpx.Client, path: str, **request: Any) -> Any:
    response = client.post(path, json={"model": MODEL} | request)
    assert response.status_code == 200, response.text
    return response.json()


def predict(client: httpx.Client, *inputs: Any, **request: Any) -> list[Any]:
    found: list[Any] = post(client, "/predict", inputs=list(inputs), tokens=True, **request)["predictions"]
    return found


def trace(client: httpx.Client, text: Any, **request: Any) -> Any:
    answer = post(client, "/gates", inputs=[text], decimals=None, **request)
    Traces.model_validate(answer)
    return answer["traces"][0]


def labels(prediction: Any) -> list[str]:
    return [token["label"] for token in prediction["tokens"]]


def test_a_text_is_what_its_sentences_are_alone(served: Process) -> None:
    whole, *alone = predict(served.client, TEXT, *SENTENCES)
    assert labels(whole) == [label for each in alone for label in labels(each)]
    expected, tokens = [], []
    first = 0
    for start, each in zip(STARTS, alone, strict=True):
        for entity in each["entities"]:
            moved = {name: entity[name] + start for name in ("start", "end")}
            expected.append(
                entity | moved | {name: entity[name] + first for name in ("token_start", "token_end")},
            )
        tokens += [token | {name: token[name] + start for name in ("start", "end")} for token in each["tokens"]]
        first += len(each["tokens"])
    assert expected, "a test without entities shows nothing"
    for found, wanted in zip(whole["entities"] + whole["tokens"], expected + tokens, strict=True):
        assert found == wanted | {"score": pytest.approx(wanted["score"], abs=1e-6)}
        assert TEXT[found["start"] : found["end"]] == found["text"]


def test_a_line_break_written_for_html_is_one(client: httpx.Client) -> None:
    sent = "Ada Lovelace&#10;Alan Turing&#13;&#10;Grace Hopper<BR>Emmy Noether"
    plain = "Ada Lovelace\nAlan Turing\r\nGrace Hopper<br>Emmy Noether"
    found, wanted = predict(client, sent, plain)
    assert labels(found) == labels(wanted)
    assert [each["score"] for each in found["tokens"]] == pytest.approx([each["score"] for each in wanted["tokens"]])
    assert all(sent[each["start"] : each["end"]] == each["text"] for each in found["entities"] + found["tokens"])
    sentences = trace(client, sent)["sentences"]
    assert sentences == trace(client, plain)["sentences"]
    assert len(sentences) == 4


def test_split_false_reads_one_sequence(client: httpx.Client) -> None:
    (split,), (whole,) = predict(client, TEXT), predict(client, TEXT, split=False)
    (tokens,) = predict(client, [token["text"] for token in whole["tokens"]])
    assert [token["score"] for token in whole["tokens"]] == pytest.approx([each["score"] for each in tokens["tokens"]])
    assert labels(whole) == labels(tokens)
    assert [token["score"] for token in whole["tokens"]] != pytest.approx([each["score"] for each in split["tokens"]])


def test_tokens_and_classifiers_know_no_sentences(client: httpx.Client) -> None:
    tokens = [token["text"] for token in predict(client, TEXT)[0]["tokens"]]
    assert predict(client, tokens) == predict(client, tokens, split=False)
    assert "sentences" not in trace(client, tokens)
    assert "sentences" not in trace(client, TEXT, split=False)
    about: dict[str, Any] = {"model": "sentiment-bilstm", "inputs": TEXT}
    assert client.post("/predict", json=about).json() == client.post("/predict", json={**about, "split": False}).json()
    assert "sentences" not in client.post("/gates", json=about).json()["traces"][0]


@pytest.mark.parametrize("wrong", [None, 1, "true", []])
@pytest.mark.parametrize("path", ["/predict", "/gates"])
def test_split_is_true_or_false(client: httpx.Client, path: str, wrong: Any) -> None:
    response = client.post(path, json={"model": MODEL, "inputs": TEXT, "split": wrong})
    assert response.status_code == 422
    assert [problem["pointer"] for problem in response.json()["errors"]] == ["/split"]


def test_one_sentence_is_named_too(client: httpx.Client) -> None:
    found = trace(client, SENTENCES[0])
    assert found["sentences"] == [[0, len(found["tokens"])]]


@pytest.mark.parametrize("model", [MODEL, "ner-bigru", "ner-bigru-before"])
@pytest.mark.parametrize("reduce", ["none", "summary"])
def test_a_trace_is_what_the_sentences_traces_are(client: httpx.Client, model: str, reduce: str) -> None:
    whole, *alone = (trace(client, text, model=model, reduce=reduce) for text in (TEXT, *SENTENCES))
    ends = np.cumsum([len(each["tokens"]) for each in alone]).tolist()
    assert whole["sentences"] == [list(each) for each in zip([0, *ends], ends, strict=False)]
    for number, layer in enumerate(whole["layers"]):
        for gate, rows in layer["gates"].items():
            for name, found in rows.items() if reduce == "summary" else [(None, rows)]:
                parts = [each["layers"][number]["gates"][gate] for each in alone]
                wanted = np.concatenate([part[name] if name else part for part in parts])
                np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("token", [0, 3, 9, -1])
def test_a_token_of_any_sentence_is_explained(client: httpx.Client, token: int) -> None:
    sentences = trace(client, TEXT)["sentences"]
    token %= sentences[-1][1]
    given = trace(client, TEXT, explain=token)["contributions"]
    number = next(number for number, (_, end) in enumerate(sentences) if token < end)
    first, end = sentences[number]
    alone = trace(client, SENTENCES[number], explain=token - first)["contributions"]
    shares = np.array(given["tokens"])
    assert len(shares) == sentences[-1][1]
    assert not shares[:first].any()
    assert not shares[end:].any()
    np.testing.assert_allclose(shares[first:end], alone["tokens"], atol=1e-6)
    np.testing.assert_allclose(np.array(given["bias"]) + shares.sum(axis=0), given["logits"], atol=1e-6)
    np.testing.assert_allclose(given["logits"], alone["logits"], atol=1e-6)


def test_a_token_past_the_text_is_refused(client: httpx.Client) -> None:
    count = trace(client, TEXT)["sentences"][-1][1]
    response = client.post("/gates", json={"model": MODEL, "inputs": TEXT, "explain": count})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/explain"


def test_statistics_are_over_all_sentences(client: httpx.Client) -> None:
    found = trace(client, TEXT, statistics=True)
    for layer in found["layers"]:
        for gate, values in layer["statistics"]["gates"].items():
            rows = np.array(layer["gates"][gate])
            np.testing.assert_allclose(values["mean"], rows.mean(axis=0), atol=1e-5)
            moves = [np.abs(np.diff(rows[first:end], axis=0)) for first, end in found["sentences"]]
            np.testing.assert_allclose(values["change"], np.concatenate(moves).mean(axis=0), atol=1e-5)
            if "below" in values:
                np.testing.assert_allclose(values["below"], (rows < 0.1).mean(axis=0), atol=1e-5)
        kept = np.array(layer["gates"]["forget"])
        np.testing.assert_allclose(layer["statistics"]["horizon"], -1 / np.log(kept).mean(axis=0), rtol=1e-3)


def test_the_binary_answer_is_the_same(client: httpx.Client) -> None:
    expected = trace(client, TEXT)
    asked = {"model": MODEL, "inputs": [TEXT]}
    content = client.post("/gates", json=asked, headers={"Accept": "application/vnd.safetensors"}).content
    length = int.from_bytes(content[:8], "little")
    (response,) = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["response"])["traces"]
    assert response["sentences"] == expected["sentences"]
    tensors = load(content)
    for layer in expected["layers"]:
        for gate, rows in layer["gates"].items():
            np.testing.assert_allclose(tensors[f"0/{layer['layer']}/{layer['direction']}/{gate}"], rows, atol=1e-6)


def test_the_token_limit_counts_the_whole_text(start: Any) -> None:
    client = start("--max-tokens", "10").until_ready().client
    long = client.post("/predict", json={"model": MODEL, "inputs": TEXT})
    assert long.status_code == 422
    assert "the model's limit is 10" in long.text
    found = trace(client, TEXT, truncate=True, tokens=True)
    assert found["prediction"]["truncated"] is True
    assert len(found["tokens"]) == len(found["prediction"]["tokens"]) == found["sentences"][-1][1] == 10


def test_hugging_face_gets_the_same(client: httpx.Client) -> None:
    (expected,) = predict(client, TEXT)
    parameters = {"aggregation_strategy": "none", "ignore_labels": []}
    found = client.post(f"/models/{MODEL}", json={"inputs": TEXT, "parameters": parameters}).json()
    assert [each["entity"] for each in found] == labels(expected)
    assert [each["score"] for each in found] == pytest.approx([each["score"] for each in expected["tokens"]], abs=1e-6)


def test_the_open_inference_protocol_gets_the_same(service: Process, client: httpx.Client) -> None:
    expected, other = trace(client, TEXT, tokens=True), trace(client, SENTENCES[1], tokens=True)
    tensor = triton.InferInput("text", [2], "BYTES")
    tensor.set_data_from_numpy(np.array([TEXT.encode(), SENTENCES[1].encode()], np.object_))
    names = ["labels", "logits", "start", "gate.0.backward.hidden"]
    with triton.InferenceServerClient(service.url.removeprefix("http://")) as infer:
        answer = infer.infer(MODEL, [tensor], outputs=[triton.InferRequestedOutput(name) for name in names])
    for row, found in enumerate((expected, other)):
        count = len(found["tokens"])
        assert [label.decode() for label in answer.as_numpy("labels")[row][:count]] == labels(found["prediction"])
        assert answer.as_numpy("start")[row][:count].tolist() == [token["start"] for token in found["tokens"]]
        backward = next(layer for layer in found["layers"] if layer["direction"] == "backward")
        np.testing.assert_allclose(
            answer.as_numpy("gate.0.backward.hidden")[row][:count], backward["gates"]["hidden"], atol=1e-6
        )


def test_the_client_asks_for_it_and_says_it(service: Process, client: httpx.Client) -> None:
    with Client(service.url) as asked:
        (found,) = asked.gates([TEXT], model=MODEL).traces
        assert found.sentences == trace(client, TEXT)["sentences"]
        (whole,) = asked.gates([TEXT], model=MODEL, split=False).traces
        assert whole.sentences is None
        (prediction,) = asked.predict([TEXT], model=MODEL, tokens=True).predictions
    assert [token.label for token in prediction.tokens] == labels(predict(client, TEXT)[0])  # type: ignore[union-attr]  # asked with tokens


@pytest.mark.parametrize("split", [True, False])
def test_the_batch_command_does_the_same(client: httpx.Client, repository: Path, tmp_path: Path, split: bool) -> None:
    texts = [TEXT, *SENTENCES, TEXT * 3]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    command = [sys.executable, "-m", "service", "predict", "--models", str(repository), "--model", MODEL, "--quiet"]
    command += ["--tokens", "--gates", *([] if split else ["--no-split"]), str(tmp_path / "in.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    for text, line in zip(texts, done.stdout.splitlines(), strict=True):
        found, expected = json.loads(line), trace(client, text, split=split, tokens=True)
        assert found.get("sentences") == expected.get("sentences")
        assert [each["label"] for each in found["entities"]] == [
            each["label"] for each in expected["prediction"]["entities"]
        ]
        for mine, theirs in zip(found["layers"], expected["layers"], strict=True):
            np.testing.assert_allclose(mine["gates"]["hidden"], theirs["gates"]["hidden"], atol=1e-4)


def test_names_of_two_sentences_are_two(served: Process) -> None:
    def entities(text: str) -> list[tuple[str, str]]:
        answer = served.client.post("/predict", json={"task": "ner", "inputs": text}).json()
        return [(each["label"], each["text"]) for each in answer["predictions"][0]["entities"]]

    assert entities("He left for Paris\n\nRome is beautiful.") == [("LOC", "Paris"), ("LOC", "Rome")]
    names = ["Ada Lovelace", "Charles Babbage", "Grace Hopper"]
    for between in ("\n", "\r\n", "\n\n"):
        assert entities(between.join(names)) == [("PER", name) for name in names]
