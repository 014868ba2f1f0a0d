"""`POST /models/{name}` through huggingface_hub's own client, and over plain HTTP."""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from tests.integration.conftest import Process, Start
from tests.integration.protocols import error

TEXT = "Ada Lovelace lived in London. Ada Lovelace was not bad, and London is in London."


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the service may be asked, with no token of whoever runs the tests."""
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)


def hub(service: Process, model: str, token: str | None = None) -> InferenceClient:
    return InferenceClient(model=f"{service.url}/models/{model}", token=token)


def native(client: httpx.Client, model: str, inputs: Any) -> Any:
    answer = client.post("/predict", json={"model": model, "inputs": inputs, "tokens": True})
    return answer.raise_for_status().json()["predictions"]


def post(client: httpx.Client, model: str, inputs: Any, **parameters: Any) -> httpx.Response:
    return client.post(f"/models/{model}", json={"inputs": inputs, "parameters": parameters})


@pytest.mark.parametrize("model", ["sentiment-bilstm", "sentiment-bigru"])
def test_text_classification(service: Process, client: httpx.Client, model: str) -> None:
    (expected,) = native(client, model, TEXT)
    found = hub(service, model).text_classification(TEXT)
    assert {each.label: each.score for each in found} == pytest.approx(expected["scores"])
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert found[0].label == expected["label"]


def test_top_k(service: Process) -> None:
    client = hub(service, "sentiment-bilstm")
    assert len(client.text_classification(TEXT, top_k=1)) == 1
    assert len(client.text_classification(TEXT, top_k=5)) == 2
    assert client.text_classification(TEXT, top_k=1)[0] == client.text_classification(TEXT)[0]


def test_function_to_apply(service: Process) -> None:
    client = hub(service, "sentiment-bilstm")
    softmax = {each.label: each.score for each in client.text_classification(TEXT, function_to_apply="softmax")}
    sigmoid = {each.label: each.score for each in client.text_classification(TEXT, function_to_apply="sigmoid")}
    logits = {each.label: each.score for each in client.text_classification(TEXT, function_to_apply="none")}
    assert sigmoid == pytest.approx({label: 1 / (1 + math.exp(-logit)) for label, logit in logits.items()})
    total = sum(map(math.exp, logits.values()))
    assert softmax == pytest.approx({label: math.exp(logit) / total for label, logit in logits.items()}, abs=1e-6)


def test_tokens_without_aggregation(service: Process, client: httpx.Client) -> None:
    (expected,) = native(client, "ner-bigru", TEXT)
    labelled = [token for token in expected["tokens"] if token["label"] != "O"]
    assert labelled
    found = hub(service, "ner-bigru").token_classification(TEXT, aggregation_strategy="none")
    assert [(each.entity, each.word, each.start, each.end) for each in found] == [
        (token["label"], token["text"], token["start"], token["end"]) for token in labelled
    ]
    assert [each.score for each in found] == pytest.approx([token["score"] for token in labelled])
    assert all(each.entity_group is None for each in found)


@pytest.mark.parametrize("strategy", [None, "simple", "first", "average", "max"])
@pytest.mark.parametrize("model", ["ner-bilstm", "ner-bigru"])
def test_entities(served: Process, model: str, strategy: Any) -> None:
    (expected,) = native(served.client, model, TEXT)
    found = hub(served, model).token_classification(TEXT, aggregation_strategy=strategy)
    assert expected["entities"]
    assert [(each.entity_group, each.word, each.start, each.end) for each in found] == [
        (entity["label"], entity["text"], entity["start"], entity["end"]) for entity in expected["entities"]
    ]
    for each, entity in zip(found, expected["entities"], strict=True):
        scores = [token["score"] for token in expected["tokens"][entity["token_start"] : entity["token_end"]]]
        assert each.score == pytest.approx(sum(scores) / len(scores))
        assert each.word == TEXT[each.start : each.end]


def test_ignored_labels(served: Process) -> None:
    tagger = hub(served, "ner-bilstm")
    (expected,) = native(served.client, "ner-bilstm", TEXT)
    every = tagger.token_classification(TEXT, aggregation_strategy="none", ignore_labels=[])
    assert [each.entity for each in every] == [token["label"] for token in expected["tokens"]]
    groups = tagger.token_classification(TEXT, ignore_labels=[])
    assert "O" in {each.entity_group for each in groups}
    kinds = {each.entity_group for each in groups} - {"O"}
    gone = sorted(str(kind) for kind in kinds)[0]
    rest = {each.entity_group for each in tagger.token_classification(TEXT, ignore_labels=["O", gone])}
    assert rest == kinds - {gone}


def test_lists_give_a_list_for_each_input(client: httpx.Client) -> None:
    texts = [TEXT, "bad", "A great film."]
    for model in ("sentiment-bilstm", "ner-bilstm"):
        together = post(client, model, texts).json()
        alone = [post(client, model, text).json() for text in texts]
        assert together == ([one for (one,) in alone] if model.startswith("sentiment") else alone)
    assert post(client, "ner-bilstm", [["Ada", "Lovelace", "lived"]], stride=0).status_code == 200


def test_truncation(client: httpx.Client) -> None:
    long = "good " * 5000
    assert "/inputs: " in error(post(client, "sentiment-bilstm", long), 422)
    assert "/inputs: " in error(post(client, "sentiment-bilstm", long, truncation="do_not_truncate"), 422)
    for model in ("sentiment-bilstm", "ner-bilstm"):
        for inputs in (long, ["a", long]):
            answer = post(client, model, inputs, truncation="longest_first")
            assert (answer.status_code, answer.headers["X-Truncated"]) == (200, "true")
        assert post(client, model, "a", truncation=True).headers["X-Truncated"] == "false"


@pytest.mark.parametrize("model", ["sentiment-bilstm", "ner-bilstm"])
def test_the_client_at_an_address_with_a_slash(service: Process, model: str) -> None:
    client, plain = hub(service, f"{model}/"), hub(service, model)
    if model.startswith("sentiment"):
        assert client.text_classification(TEXT) == plain.text_classification(TEXT)
    else:
        assert client.token_classification(TEXT) == plain.token_classification(TEXT)


@pytest.mark.parametrize(
    "more",
    [
        {"parameters": None, "options": None},
        {"parameters": {}, "options": {}},
        {"parameters": [], "options": []},
        {"parameters": {"top_k": None, "return_all_scores": True, "max_length": 512, "padding": "longest"}},
        {"parameters": {"function_to_apply": None, "aggregation_strategy": None, "ignore_labels": None}},
        {"parameters": {"top_k": [], "function_to_apply": [], "aggregation_strategy": [], "truncation": []}},
        {"options": {"use_gpu": False, "wait_for_model": None, "use_cache": []}},
        {"model": "another", "stream": False, "text": "x"},
    ],
)
def test_what_is_not_known_is_passed_over_and_null_is_left_out(client: httpx.Client, more: Any) -> None:
    for model in ("sentiment-bilstm", "ner-bilstm"):
        found = client.post(f"/models/{model}", json={"inputs": TEXT, **more})
        assert found.status_code == 200, found.text
        assert found.json() == post(client, model, TEXT).json()


def test_no_labels_to_ignore_are_none_and_left_out_for_classifiers(client: httpx.Client) -> None:
    assert (
        post(client, "sentiment-bilstm", TEXT, ignore_labels=[]).json() == post(client, "sentiment-bilstm", TEXT).json()
    )
    groups = post(client, "ner-bilstm", TEXT, ignore_labels=[], top_k=[]).json()
    assert "O" in {group["entity_group"] for group in groups}


def test_options_are_taken(client: httpx.Client) -> None:
    body = {"inputs": "a", "options": {"wait_for_model": True, "use_cache": False}, "parameters": None}
    assert client.post("/models/sentiment-bilstm", json=body).status_code == 200


@pytest.mark.parametrize(
    ("model", "body", "status", "words"),
    [
        ("nothing", {"inputs": "a"}, 404, "sentiment-bilstm"),
        ("sentiment-bilstm", {"inputs": ""}, 422, "/inputs: The text is empty"),
        ("sentiment-bilstm", {"inputs": []}, 422, "/inputs: The list is empty"),
        ("sentiment-bilstm", {"inputs": ["a", 1]}, 422, "/inputs/1"),
        ("sentiment-bilstm", {"text": "a"}, 422, "/inputs: The field is missing"),
        ("sentiment-bilstm", {"inputs": None}, 422, "/inputs"),
        ("sentiment-bilstm", {"inputs": "a", "parameters": [1]}, 422, "/parameters: An object is expected, not a list"),
        ("ner-bilstm", {"inputs": "a", "options": "x"}, 422, '/options: An object is expected, not "x"'),
        ("sentiment-bilstm", {"inputs": "a", "parameters": {"top_k": 0}}, 422, "/parameters/top_k"),
        ("sentiment-bilstm", {"inputs": "a", "parameters": {"truncation": "head"}}, 422, "/parameters/truncation"),
        ("sentiment-bilstm", {"inputs": "a", "parameters": {"stride": 1}}, 422, "token classification"),
        ("ner-bilstm", {"inputs": "a", "parameters": {"top_k": 1}}, 422, "text classification"),
        ("ner-bilstm", {"inputs": "a", "parameters": {"aggregation_strategy": "last"}}, 422, "'none', 'simple'"),
        ("ner-bilstm", {"inputs": ["a"] * 300}, 413, "300"),
    ],
)
def test_errors(client: httpx.Client, model: str, body: Any, status: int, words: str) -> None:
    assert words in error(client.post(f"/models/{model}", json=body), status)


def test_errors_before_the_body_is_read(client: httpx.Client) -> None:
    error(client.post("/models/sentiment-bilstm", content=b"{", headers={"Content-Type": "application/json"}), 400)
    error(client.post("/models/sentiment-bilstm", content=b"inputs=a"), 415)


def test_the_client_meets_errors_as_its_own(start: Start) -> None:
    service = start(SERVICE_API_KEYS="right-key").until_ready()
    error(service.client.post("/models/sentiment-bilstm", json={"inputs": "a"}), 401)
    assert hub(service, "sentiment-bilstm", token="right-key").text_classification("a")
    with pytest.raises(HfHubHTTPError) as wrong:
        hub(service, "nothing", token="right-key").text_classification("a")
    assert wrong.value.response.status_code == 404


def test_many_labels_to_ignore_cost_no_more_than_few(client: httpx.Client) -> None:
    labels = [f"label {number}" for number in range(80_000)]
    body = {"inputs": ["a b c d " * 200] * 64, "parameters": {"aggregation_strategy": "none", "ignore_labels": labels}}
    answer = client.post("/models/ner-bilstm", json=body, headers={"X-Request-Timeout": "20"})
    assert answer.status_code == 200
    assert [len(tokens) for tokens in answer.json()] == [800] * 64
