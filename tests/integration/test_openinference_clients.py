"""`/v2` as its clients use it beyond the letter: leniency, signs of cut texts, configuration and statistics."""

from __future__ import annotations

import struct
import time
from typing import Any

import httpx
import pytest

from tests.integration.conftest import Start
from tests.integration.triton import InferenceServerException, binary, body, connect, infer, texts, wanted
from tests.patience import PATIENCE

LENIENT = {
    "KServe": {**body(), "id": "4", "model_name": "another"},
    "MLServer": {
        **body(shape=[1, 1], parameters={"content_type": "str", "headers": None}),
        "id": None,
        "outputs": None,
        "parameters": {"content_type": "str", "headers": {"X-A": "b"}},
    },
    "null parameters": {**body(parameters=None), "id": None, "parameters": None},
    "no outputs": {**body(), "outputs": []},
    "empty lists for objects": {**body(parameters=[]), "parameters": []},
    "null data": body(parameters={}),
    "null in parameters": {**body(), "parameters": {"truncate": None, "binary_data_output": None, "timeout": None}},
    "empty lists in parameters": {
        **body(parameters={"binary_data_size": []}),
        "id": [],
        "parameters": {"truncate": [], "sequence_id": [], "sequence_start": [], "timeout": []},
    },
    "Triton's parameters": {**body(), "parameters": {"priority": 1, "timeout": 0, "sequence_start": False}},
    "custom parameters": {**body(parameters={"a": [1]}), "parameters": {"mine": {"deep": [None]}, "": 1}},
    "unknown members": {**body(extra=1), "model_version": "9", "raw_input_contents": [], "x": None},
}


@pytest.mark.parametrize("how", LENIENT)
def test_what_is_not_known_is_passed_over_and_null_is_left_out(client: httpx.Client, how: str) -> None:
    plain = infer(client, body()).json()
    found = infer(client, LENIENT[how])
    assert found.status_code == 200, found.text
    assert {**found.json(), "id": None} == {**plain, "id": None}


@pytest.mark.parametrize(
    "parameters",
    [None, {}, [], {"binary_data": None}, {"binary_data": []}, {"classification": 2}, {"binary_data": False}],
)
def test_parameters_of_outputs(client: httpx.Client, parameters: Any) -> None:
    (output,) = infer(client, {**body(), "outputs": [{"name": "label", "parameters": parameters, "x": 1}]}).json()[
        "outputs"
    ]
    assert (output["name"], len(output["data"])) == ("label", 1)


def test_binary_data_with_empty_data_beside_it(client: httpx.Client) -> None:
    request = binary(struct.pack("<I", 1) + b"a", 5)
    request["content"] = request["content"].replace(b'"name":"text"', b'"name":"text","data":[]')
    request["headers"]["Inference-Header-Content-Length"] = str(request["content"].rindex(b"}") + 1)
    assert client.post("/v2/models/sentiment-bilstm/infer", **request).status_code == 200


def test_an_answer_says_whether_an_input_was_cut(inference: Any, client: httpx.Client) -> None:
    mixed = texts(["good " * 5000, "good"])
    found = inference.infer("sentiment-bilstm", [mixed], outputs=wanted("truncated"), parameters={"truncate": True})
    assert found.as_numpy("truncated").tolist() == [True, False]
    assert found.get_response()["parameters"] == {"truncated": True}
    whole = infer(client, {**body(), "outputs": [{"name": "truncated"}]}, "ner-bilstm").json()
    assert whole["outputs"] == [{"name": "truncated", "datatype": "BOOL", "shape": [1], "data": [False]}]
    assert whole["parameters"] == {"truncated": False}


def test_the_configuration(inference: Any) -> None:
    config = inference.get_model_config("ner-bilstm")
    assert config == inference.get_model_config("ner-bilstm", "1")
    metadata = inference.get_model_metadata("ner-bilstm")
    assert (config["name"], config["platform"]) == (metadata["name"], metadata["platform"])
    assert config["max_batch_size"] == 0  # shapes are whole
    kinds = {"BYTES": "TYPE_STRING"}
    for side in ("input", "output"):
        assert [(each["name"], each["data_type"], each["dims"]) for each in config[side]] == [
            (each["name"], kinds.get(each["datatype"], f"TYPE_{each['datatype']}"), each["shape"])
            for each in metadata[f"{side}s"]
        ]
    assert config["parameters"]["task"] == {"string_value": "ner"}
    for wrong in (("nothing",), ("ner-bilstm", "9")):
        with pytest.raises(InferenceServerException, match=r"no model|version 1 is"):
            inference.get_model_config(*wrong)


def numbers(client: Any, model: str = "sentiment-lstm") -> Any:
    (found,) = client.get_inference_statistics(model)["model_stats"]
    return found


def test_statistics_count_what_was_asked_of_a_model(inference: Any, client: httpx.Client) -> None:
    before, other, began = numbers(inference), numbers(inference, "sentiment-gru"), time.time()
    inference.infer("sentiment-lstm", [texts()])
    client.post("/predict", json={"model": "sentiment-lstm", "inputs": "a"}).raise_for_status()
    client.post("/predict", json={"model": "sentiment-lstm", "inputs": ["a", ""]})
    after = numbers(inference)
    pairs = zip(after["inference_stats"].items(), before["inference_stats"].values(), strict=True)
    grown = {name: (new["count"] - old["count"], new["ns"] - old["ns"]) for (name, new), old in pairs}
    assert (after["name"], after["version"]) == ("sentiment-lstm", "1")
    assert after["inference_count"] - before["inference_count"] == 4
    assert 2 <= after["execution_count"] - before["execution_count"] <= 4
    assert (grown["success"][0], grown["fail"][0]) == (2, 1)
    assert (grown["queue"][0], grown["compute_infer"][0]) == (4, 4)
    assert grown["success"][1] > grown["compute_infer"][1] > 0
    assert grown["compute_input"][1] > 0
    assert grown["compute_output"][1] > 0
    assert after["last_inference"] / 1000 == pytest.approx(began, abs=60)
    in_batches = sum(each["batch_size"] * each["compute_infer"]["count"] for each in after["batch_stats"])
    assert in_batches == after["inference_stats"]["queue"]["count"]
    assert numbers(inference, "sentiment-gru") == other
    assert after["name"] in {each["name"] for each in inference.get_inference_statistics()["model_stats"]}
    assert inference.get_inference_statistics("sentiment-lstm", "1")["model_stats"][0]["name"] == "sentiment-lstm"
    with pytest.raises(InferenceServerException, match="no model"):
        inference.get_inference_statistics("nothing")


def test_statistics_are_those_of_all_workers(start: Start) -> None:
    service = start("--workers", "2").until_ready()
    for _ in range(12):  # each on a connection of its own
        body = {"inputs": "a", "model": "ner-bigru"}
        httpx.post(f"{service.url}/predict", json=body, timeout=PATIENCE).raise_for_status()
    client = connect(service)
    service.wait(lambda: numbers(client, "ner-bigru")["inference_stats"]["success"]["count"] == 12)
    client.close()
