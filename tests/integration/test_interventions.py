"""`set`, `drop`, `faithfulness` and `deletion` of `/gates` over HTTP, for every cell, against float64 and /predict."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load

from service.client import Client
from service.http.schemas.responses import Traces
from service.model import bundle as bundles
from service.model.bundle import TOKENIZER
from service.model.equations import gate_names, gates
from service.model.interventions import MAX_SETTINGS, Setting
from service.model.tokenizer import Tokenizer
from tests import clamped
from tests.integration.conftest import Process
from tests.integration.models import HIDDEN

TEXT = "It was n't a great film , but the film is fine ."
WORDS = TEXT.split()
MODELS = ["sentiment-bilstm", "sentiment-lstm", "sentiment-bigru", "sentiment-birnn", "sentiment-bipeephole"]
MODELS += ["sentiment-mingru", "sentiment-biminlstm", "sentiment-mingru-window"]
TAGGERS = ["ner-bilstm", "ner-bigru", "ner-bigru-before", "ner-bimingru", "ner-biminlstm-window"]
NEW = {"kept", "baseline", "faithfulness", "deletion_effects"}


def ask(client: httpx.Client, **request: Any) -> Any:
    response = client.post("/gates", json={"inputs": [WORDS], "decimals": None, **request})
    assert response.status_code == 200, response.text
    Traces.model_validate_json(response.content)
    return response.json()["traces"][0]


def predict(client: httpx.Client, model: str, tokens: list[str], **more: Any) -> Any:
    response = client.post("/predict", json={"model": model, "inputs": [tokens], **more})
    assert response.status_code == 200, response.text
    return response.json()["predictions"][0]


def expected(repository: Path, model: str, tokens: list[str], settings: list[dict[str, Any]]) -> Any:
    """The gates, in float64."""
    bundle = bundles.load(repository / model / "1")
    tokenizer = Tokenizer.load(bundle.file(TOKENIZER), bundle.manifest.features)
    made = [
        Setting(**{name: tuple(value) if isinstance(value, list) else value for name, value in each.items()})  # type: ignore[arg-type]  # fields by name
        for each in settings
    ]
    return clamped.run(bundle, tokenizer.encode(tokens, 4096).rows, made)


def check_gates(trace: Any, found: dict[Any, np.ndarray]) -> None:
    assert {(layer["layer"], layer["direction"]) for layer in trace["layers"]} == {key[:2] for key in found}
    for layer in trace["layers"]:
        for gate, rows in layer["gates"].items():
            values = found[layer["layer"], layer["direction"], gate]
            np.testing.assert_allclose(np.array(rows), values, rtol=2e-5, atol=2e-6, err_msg=gate)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


@pytest.mark.parametrize("model", MODELS + TAGGERS)
def test_every_gate_can_be_set(client: httpx.Client, repository: Path, model: str) -> None:
    about = client.get(f"/models/{model}").json()
    for gate in gates(about["cell"], about["gru_reset"]):
        value = max(gate.low, -2.0) if gate.name != "hidden" else 0.75
        setting = {"layer": about["layers"] - 1, "direction": about["directions"][-1], "gate": gate.name}
        settings = [
            {**setting, "value": value, "units": [0, 3], "tokens": [2, 5]},
            {**setting, "value": 0.5, "units": [9]},
        ]
        trace = ask(client, model=model, set=settings)
        logits, found = expected(repository, model, WORDS, settings)
        check_gates(trace, found)
        if about["task"] == "sentiment":
            scores = np.array([trace["prediction"]["scores"][label] for label in about["labels"]])
            np.testing.assert_allclose(scores, softmax(logits), atol=1e-5)
        assert NEW & trace.keys() == {"baseline"}
        plain = predict(client, model, WORDS)
        assert trace["baseline"].keys() == plain.keys()
        if about["task"] == "sentiment":
            assert trace["baseline"]["scores"] == pytest.approx(plain["scores"], abs=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_without_interventions_the_answer_is_that_of_before(client: httpx.Client, model: str) -> None:
    plain = ask(client, model=model)
    assert not NEW & plain.keys()
    setting = {"layer": 0, "direction": "forward", "gate": "hidden", "units": [0], "tokens": [0], "value": 0.0}
    changed = ask(client, model=model, set=[setting])
    assert changed["baseline"] == plain["prediction"]  # bit for bit
    assert ask(client, model=model) == plain


@pytest.mark.parametrize("model", [*MODELS, *TAGGERS])
def test_dropped_tokens_are_not_read(client: httpx.Client, repository: Path, model: str) -> None:
    left = [word for at, word in enumerate(WORDS) if at not in (2, 7)]
    trace = ask(client, model=model, drop=[7, 2], inputs=[WORDS])
    assert [token["text"] for token in trace["tokens"]] == left
    assert [TEXT[token["start"] : token["end"]] for token in trace["tokens"]] == left
    assert trace["kept"] == [0, 1, 3, 4, 5, 6, 8, 9, 10, 11, 12]
    check_gates(trace, expected(repository, model, left, [])[1])
    if model in MODELS:
        assert trace["prediction"]["scores"] == pytest.approx(predict(client, model, left)["scores"], abs=1e-5)
        assert trace["baseline"]["scores"] == pytest.approx(predict(client, model, WORDS)["scores"], abs=1e-5)


def test_numbers_beside_set_are_those_of_the_text_as_sent(client: httpx.Client, repository: Path) -> None:
    setting = {"layer": 0, "direction": "backward", "gate": "forget", "value": 0.0}
    trace = ask(client, model="sentiment-bilstm", drop=[1, 4], set=[{**setting, "tokens": [2, 6]}])
    left = [word for at, word in enumerate(WORDS) if at not in (1, 4)]
    check_gates(trace, expected(repository, "sentiment-bilstm", left, [{**setting, "tokens": [1, 4]}])[1])
    split = trace["contributions"]
    sums = np.array(split["bias"]) + np.array(split["tokens"]).sum(axis=0)
    np.testing.assert_allclose(sums, split["logits"], atol=1e-3)
    np.testing.assert_allclose(
        softmax(np.array(split["logits"])), list(trace["prediction"]["scores"].values()), atol=1e-5
    )


def test_sentences_are_read_each_from_a_zero_state(client: httpx.Client, repository: Path) -> None:
    text = "Ada lived in London. It was fine."
    setting = {"layer": 0, "direction": "forward", "gate": "input", "value": 1.0, "tokens": [3, 6]}
    trace = ask(client, model="ner-bilstm", inputs=text, set=[setting], drop=[0], explain=7)
    assert trace["sentences"] == [[0, 4], [4, 8]]
    assert trace["kept"] == [1, 2, 3, 4, 5, 6, 7, 8]
    parts = (
        (["lived", "in", "London", "."], [{**setting, "tokens": [2]}]),
        (["It", "was", "fine", "."], [{**setting, "tokens": [1]}]),
    )
    found = [expected(repository, "ner-bilstm", tokens, settings)[1] for tokens, settings in parts]
    check_gates(trace, {key: np.concatenate([each[key] for each in found]) for key in found[0]})
    shares = np.array(trace["contributions"]["tokens"])
    assert (shares[:4] == 0).all()
    assert (shares[4:] != 0).any(axis=1).all()


def test_the_binary_answer_has_the_same(client: httpx.Client) -> None:
    request: dict[str, Any] = {
        "model": "sentiment-lstm",
        "inputs": [WORDS],
        "decimals": None,
        "drop": [0],
        "faithfulness": True,
        "deletion": True,
    }
    request["set"] = [{"layer": 1, "direction": "forward", "gate": "cell", "value": 2.5, "tokens": [4]}]
    binary = client.post("/gates", json=request, headers={"Accept": "application/vnd.safetensors"})
    assert binary.status_code == 200, binary.text
    length = int.from_bytes(binary.content[:8], "little")
    told = json.loads(json.loads(binary.content[8 : 8 + length])["__metadata__"]["response"])["traces"][0]
    plain = ask(client, **request)
    for name in NEW:
        assert told[name] == plain[name], name
    assert (load(binary.content)["0/1/forward/cell"][3] == 2.5).all()  # row 3 is token 4 of the text as sent


@pytest.mark.parametrize("model", ["sentiment-bilstm", "sentiment-gru", "sentiment-bipeephole"])
def test_faithfulness_is_what_predict_answers(client: httpx.Client, model: str) -> None:
    trace = ask(client, model=model, faithfulness=True, deletion=True)
    found, label = trace["faithfulness"], trace["prediction"]["label"]
    assert (found["label"], found["score"]) == (label, pytest.approx(trace["prediction"]["score"], abs=1e-5))
    labels = trace["contributions"]["labels"]
    shares = np.array(trace["contributions"]["tokens"])[:, labels.index(label)]
    order = found["deletion"]["order"]
    assert order == np.argsort(-shares, kind="stable").tolist()

    def score(tokens: list[int]) -> float:
        return float(predict(client, model, [WORDS[token] for token in sorted(tokens)])["scores"][label])

    scores = found["deletion"]["scores"]
    assert len(scores) == len(WORDS) - 1
    for gone in range(1, len(WORDS)):
        assert scores[gone - 1] == pytest.approx(score(order[gone:]), abs=1e-5)
    tops = [-(-percent * len(WORDS) // 100) for percent in (1, 5, 10, 20, 50)]
    assert found["comprehensiveness"] == pytest.approx(
        np.mean([found["score"] - scores[top - 1] for top in tops]), abs=1e-5
    )
    assert found["sufficiency"] == pytest.approx(
        np.mean([found["score"] - score(order[:top]) for top in tops]), abs=1e-5
    )
    effects = trace["deletion_effects"]
    assert effects["labels"] == labels
    full = trace["prediction"]["scores"]
    for token, row in enumerate(effects["tokens"]):
        left = predict(client, model, WORDS[:token] + WORDS[token + 1 :])["scores"]
        odds = np.log(left[labels[1]] / left[labels[0]]) - np.log(full[labels[1]] / full[labels[0]])
        assert row[1] - row[0] == pytest.approx(odds, abs=1e-4)


@pytest.mark.parametrize("model", TAGGERS)
def test_a_taggers_context_is_deleted(client: httpx.Client, model: str) -> None:
    trace = ask(client, model=model, explain=4, faithfulness=True, deletion=True, tokens=True)
    found = trace["faithfulness"]
    assert found["label"] == trace["prediction"]["tokens"][4]["label"]
    assert found["score"] == pytest.approx(trace["prediction"]["tokens"][4]["score"], abs=1e-5)
    assert found["deletion"]["order"][-1] == 4
    assert trace["deletion_effects"]["tokens"][4] is None
    assert all(trace["deletion_effects"]["tokens"][token] for token in range(13) if token != 4)


def test_a_cell_without_a_split_has_effects_and_no_faithfulness(client: httpx.Client) -> None:
    trace = ask(client, model="sentiment-rnn", faithfulness=True, deletion=True)
    assert trace["faithfulness"] is None
    assert "Elman" in trace["contributions_note"]
    assert len(trace["deletion_effects"]["tokens"]) == len(WORDS)


@pytest.mark.parametrize("model", ["sentiment-mingru", "sentiment-mingru-window"])
def test_one_layer_of_a_minimal_cell_has_effects_in_closed_form(client: httpx.Client, model: str) -> None:
    labels = ["negative", "positive"]
    trace = ask(client, model=model, deletion=True, drop=[0])
    effects, left = trace["deletion_effects"], WORDS[1:]
    assert effects["exact"] is True
    full = trace["prediction"]["scores"]
    for token, row in enumerate(effects["tokens"]):
        scores = predict(client, model, left[:token] + left[token + 1 :])["scores"]
        odds = [np.log(each[labels[1]] / each[labels[0]]) for each in (scores, full)]
        assert row[1] - row[0] == pytest.approx(odds[0] - odds[1], abs=1e-4)
    setting = {"layer": 0, "direction": "forward", "gate": "hidden", "value": 0.5, "tokens": [4]}
    assert ask(client, model=model, deletion=True, set=[setting])["deletion_effects"]["exact"] is False
    assert ask(client, model="sentiment-biminlstm", deletion=True)["deletion_effects"]["exact"] is False  # two layers


def test_one_normalised_gate_that_is_set_leaves_the_other_as_it_was(client: httpx.Client) -> None:
    plain = ask(client, model="sentiment-biminlstm")
    setting = {"layer": 0, "direction": "forward", "gate": "forget", "value": 0.125, "tokens": [5]}
    changed = ask(client, model="sentiment-biminlstm", set=[setting])
    before, after = (np.array(each["layers"][0]["gates"]["input"]) for each in (plain, changed))
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert (np.array(changed["layers"][0]["gates"]["forget"])[5] == 0.125).all()


def test_the_split_is_left_out_where_it_was_not_asked_for(client: httpx.Client) -> None:
    trace = ask(client, model="sentiment-bilstm", faithfulness=True, contributions=False)
    assert trace["contributions"] is None
    assert trace["faithfulness"]["deletion"]["scores"]


SETTING: dict[str, Any] = {"layer": 0, "direction": "forward", "gate": "forget", "value": 0.0}


@pytest.mark.parametrize(
    ("request_", "detail"),
    [
        ({"set": []}, "/set: The list is empty; leave it out, or give it an entry."),
        ({"drop": []}, "/drop: The list is empty; leave it out, or give it an entry."),
        (
            {"faithfulness": True, "inputs": "good " * 257},
            "Tokens of an input with faithfulness: 257, the limit is 256.",
        ),
        (
            {"deletion": True, "inputs": "good " * 513, "model": "sentiment-mingru"},
            "Tokens of an input with deletion: 513, the limit is 512.",
        ),
    ],
)
def test_a_refusal_says_what_would_be_right(client: httpx.Client, request_: dict[str, Any], detail: str) -> None:
    response = client.post("/gates", json={"model": "sentiment-bilstm", "inputs": [WORDS], **request_})
    assert response.json()["detail"] == detail


@pytest.mark.parametrize(
    ("request_", "status", "pointer"),
    [
        ({"set": []}, 422, "/set"),
        ({"set": {}}, 422, "/set"),
        ({"set": [7]}, 422, "/set/0"),
        ({"set": [{**SETTING, "unit": 3}]}, 422, "/set/0/unit"),
        ({"set": [{name: SETTING[name] for name in ("layer", "direction", "gate")}]}, 422, "/set/0/value"),
        ({"set": [{name: SETTING[name] for name in ("layer", "gate", "value")}]}, 422, "/set/0/direction"),
        ({"set": [SETTING, {**SETTING, "value": "0"}]}, 422, "/set/1/value"),
        ({"set": [{**SETTING, "value": True}]}, 422, "/set/0/value"),
        ({"set": [{**SETTING, "value": 1.5}]}, 422, "/set/0/value"),
        ({"set": [{**SETTING, "value": -1}]}, 422, "/set/0/value"),
        ({"set": [{**SETTING, "value": 1e300}]}, 422, "/set/0/value"),
        ({"set": [{**SETTING, "layer": 1}]}, 422, "/set/0/layer"),
        ({"set": [{**SETTING, "layer": "0"}]}, 422, "/set/0/layer"),
        ({"set": [{**SETTING, "direction": "sideways"}]}, 422, "/set/0/direction"),
        ({"set": [{**SETTING, "gate": "update"}]}, 422, "/set/0/gate"),
        ({"set": [{**SETTING, "units": [HIDDEN]}]}, 422, "/set/0/units/0"),
        ({"set": [{**SETTING, "units": []}]}, 422, "/set/0/units"),
        ({"set": [{**SETTING, "units": [1.5]}]}, 422, "/set/0/units/0"),
        ({"set": [{**SETTING, "tokens": [0, 13]}]}, 422, "/set/0/tokens/1"),
        ({"set": [{**SETTING, "tokens": [-1]}]}, 422, "/set/0/tokens/0"),
        ({"set": [{**SETTING, "tokens": [3, 3]}]}, 422, "/set/0/tokens/1"),
        ({"set": [{**SETTING, "tokens": [3]}], "drop": [3]}, 422, "/set/0/tokens/0"),
        ({"set": [{**SETTING, "tokens": [1]}], "inputs": ["a film", "good"]}, 422, "/set/0/tokens/0"),
        ({"drop": []}, 422, "/drop"),
        ({"drop": [13]}, 422, "/drop/0"),
        ({"drop": [2, 2]}, 422, "/drop/1"),
        ({"drop": [0, -2]}, 422, "/drop/1"),
        ({"drop": ["0"]}, 422, "/drop/0"),
        ({"drop": list(range(13))}, 422, "/drop"),
        ({"drop": 3}, 422, "/drop"),
        ({"faithfulness": "yes"}, 422, "/faithfulness"),
        ({"deletion": 1}, 422, "/deletion"),
        ({"model": "ner-bilstm", "faithfulness": True}, 422, "/faithfulness"),
        ({"model": "ner-bilstm", "deletion": True}, 422, "/deletion"),
        ({"model": "ner-bilstm", "explain": 3, "drop": [3]}, 422, "/explain"),
        ({"faithfulness": True, "inputs": "good " * 257}, 413, None),
        ({"deletion": True, "inputs": "good " * 257}, 413, None),
        ({"faithfulness": True, "deletion": True, "inputs": ["good " * 256] * 10}, 413, None),
        ({"set": [SETTING] * (MAX_SETTINGS + 1)}, 413, None),
        ({"set": [SETTING] * 999, "inputs": ["good " * 300], "units": [0]}, 413, None),
    ],
)
def test_wrong_requests_are_refused_with_a_place(
    client: httpx.Client, request_: dict[str, Any], status: int, pointer: str | None
) -> None:
    response = client.post("/gates", json={"model": "sentiment-bilstm", "inputs": [WORDS], **request_})
    assert response.status_code == status, response.text
    problem = response.json()
    assert problem["detail"]
    if pointer is not None:
        assert problem["errors"][0]["pointer"] == pointer, problem
        assert len(problem["errors"][0]["detail"]) > 10


def test_what_is_left_out_or_null_is_as_before(client: httpx.Client) -> None:
    nothing = {"set": None, "drop": None, "faithfulness": False, "deletion": False}
    assert ask(client, model="sentiment-bilstm", **nothing) == ask(client, model="sentiment-bilstm")


def test_predict_knows_none_of_it(client: httpx.Client) -> None:
    for name in ("set", "drop", "faithfulness", "deletion"):
        assert client.post("/predict", json={"inputs": TEXT, name: None}).status_code == 422


def test_measuring_ends_at_the_deadline(client: httpx.Client) -> None:
    asked = {"model": "sentiment-birnn", "inputs": ["good film " * 128] * 4, "faithfulness": True, "deletion": True}
    response = client.post("/gates", json={**asked, "units": [0]}, headers={"X-Request-Timeout": "0.05"})
    assert response.status_code == 504, response.text


@pytest.fixture
def python(service: Process) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


def test_the_python_client_asks_and_reads(python: Client) -> None:
    setting = {"layer": 0, "direction": "forward", "gate": "forget", "value": 0.0, "tokens": [2]}
    answer = python.gates([WORDS], model="sentiment-bilstm", set=[setting], drop=[0], faithfulness=True, deletion=True)  # type: ignore[list-item]  # a plain dictionary, as the client allows
    (trace,) = answer.traces
    assert trace.kept == list(range(1, 13))
    assert trace.baseline is not None
    assert trace.faithfulness is not None
    assert len(trace.faithfulness.deletion.scores) == 11
    assert trace.deletion_effects is not None
    assert trace.deletion_effects.exact is False
    assert (trace.gate("forget")[1] == 0).all()
    plain = python.gates([WORDS], model="sentiment-bilstm").traces[0]
    assert (plain.kept, plain.baseline, plain.faithfulness, plain.deletion_effects) == (None, None, None, None)
    assert set(plain.layers[0].gates) == set(gate_names("lstm"))
