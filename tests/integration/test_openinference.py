"""`/v2` through tritonclient's own HTTP client, and over plain HTTP."""

from __future__ import annotations

import struct
from typing import Any

import httpx
import numpy as np
import pytest

from tests.integration.conftest import Start
from tests.integration.models import HIDDEN
from tests.integration.protocols import error
from tests.integration.triton import (
    TEXTS,
    InferenceServerException,
    binary,
    body,
    connect,
    decoded,
    infer,
    texts,
    wanted,
)


def native(client: httpx.Client, path: str, model: str, **more: Any) -> Any:
    return client.post(path, json={"model": model, "inputs": TEXTS, **more}).raise_for_status().json()


def test_health_and_metadata(inference: Any) -> None:
    assert inference.is_server_live()
    assert inference.is_server_ready()
    assert inference.is_model_ready("sentiment-bilstm")
    assert inference.is_model_ready("sentiment-bilstm", "1")
    assert not inference.is_model_ready("sentiment-bilstm", "2")
    assert not inference.is_model_ready("nothing")
    server = inference.get_server_metadata()
    assert server["name"] == "gatelight"
    assert "binary_tensor_data" in server["extensions"]


def test_model_metadata(inference: Any) -> None:
    metadata = inference.get_model_metadata("sentiment-bilstm")
    assert metadata == inference.get_model_metadata("sentiment-bilstm", "1")
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    outputs = {output["name"]: output for output in metadata["outputs"]}
    assert outputs["logits"] == {"name": "logits", "datatype": "FP32", "shape": [-1, 2]}
    assert outputs["gate.0.backward.cell"]["shape"] == [-1, -1, HIDDEN]
    assert metadata["versions"] == ["1"]
    with pytest.raises(InferenceServerException, match="no model named 'nothing'"):
        inference.get_model_metadata("nothing")
    with pytest.raises(InferenceServerException, match="version 1 is"):
        inference.get_model_metadata("sentiment-bilstm", "7")


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("column", [True, False])
def test_a_classifier(inference: Any, client: httpx.Client, binary: bool, column: bool) -> None:
    expected = native(client, "/gates", "sentiment-bilstm")["traces"]
    outputs = wanted("label", "score", "logits", binary=binary)
    found = inference.infer("sentiment-bilstm", [texts(binary=binary, column=column)], outputs=outputs, request_id="7")
    assert found.get_response()["id"] == "7"
    assert [output["name"] for output in found.get_response()["outputs"]] == ["label", "score", "logits"]
    assert decoded(found.as_numpy("label")) == [trace["prediction"]["label"] for trace in expected]
    np.testing.assert_allclose(found.as_numpy("score"), [trace["prediction"]["score"] for trace in expected], atol=1e-6)
    np.testing.assert_allclose(
        found.as_numpy("logits"), [trace["contributions"]["logits"] for trace in expected], atol=1e-5
    )


def test_without_outputs_all_come_but_gates(inference: Any) -> None:
    found = inference.infer("sentiment-bilstm", [texts()], model_version="1")
    names = [output["name"] for output in found.get_response()["outputs"]]
    assert names == ["label", "score", "logits", "lengths"]
    assert found.as_numpy("lengths").tolist() == [4, 8, 1]
    assert found.as_numpy("logits").dtype == np.float32


@pytest.mark.parametrize("binary", [True, False])
def test_a_tagger(inference: Any, client: httpx.Client, binary: bool) -> None:
    expected = native(client, "/predict", "ner-bilstm", tokens=True)["predictions"]
    names = ("label", "labels", "score", "logits", "start", "end", "lengths")
    found = inference.infer("ner-bilstm", [texts(binary=binary)], outputs=wanted(*names, binary=binary))
    usual = inference.infer("ner-bilstm", [texts(binary=binary)]).get_response()["outputs"]
    assert tuple(output["name"] for output in usual) == names
    lengths = found.as_numpy("lengths").tolist()
    assert lengths == [len(prediction["tokens"]) for prediction in expected]
    assert found.as_numpy("logits").shape == (len(TEXTS), max(lengths), 5)
    for number, prediction in enumerate(expected):
        length = lengths[number]
        for name, field in (("start", "start"), ("end", "end"), ("score", "score")):
            row = found.as_numpy(name)[number]
            np.testing.assert_allclose(row[:length], [token[field] for token in prediction["tokens"]], atol=1e-6)
            assert not row[length:].any()
        labels = decoded(found.as_numpy("label")[number])
        assert labels == decoded(found.as_numpy("labels")[number])
        assert labels[:length] == [token["label"] for token in prediction["tokens"]]
        assert set(labels[length:]) <= {""}


@pytest.mark.parametrize("model", ["sentiment-bigru", "sentiment-lstm", "ner-bilstm"])
@pytest.mark.parametrize("binary", [True, False])
def test_gates_by_name(inference: Any, client: httpx.Client, model: str, binary: bool) -> None:
    expected = native(client, "/gates", model, decimals=None)["traces"]
    names = [each["name"] for each in inference.get_model_metadata(model)["outputs"] if each["name"].startswith("gate")]
    gates = sum(len(layer["gates"]) for layer in expected[0]["layers"])
    assert len(names) == gates
    found = inference.infer(model, [texts()], outputs=wanted(*names, binary=binary))
    lengths = found.as_numpy("lengths")
    for number, trace in enumerate(expected):
        for layer in trace["layers"]:
            for gate, rows in layer["gates"].items():
                array = found.as_numpy(f"gate.{layer['layer']}.{layer['direction']}.{gate}")[number]
                np.testing.assert_allclose(array[: lengths[number]], np.array(rows, np.float32), atol=1e-6)
                assert not array[lengths[number] :].any()


def test_one_gate_of_one_direction(inference: Any) -> None:
    found = inference.infer("sentiment-bilstm", [texts()], outputs=wanted("gate.0.forward.forget", "label"))
    names = [output["name"] for output in found.get_response()["outputs"]]
    assert names == ["gate.0.forward.forget", "label", "lengths"]
    assert found.as_numpy("gate.0.forward.forget").shape == (3, 8, HIDDEN)


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compressed_requests(inference: Any, compression: str) -> None:
    plain = inference.infer("sentiment-bilstm", [texts()])
    packed = inference.infer(
        "sentiment-bilstm",
        [texts()],
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    np.testing.assert_array_equal(plain.as_numpy("logits"), packed.as_numpy("logits"))


def test_async_infer(inference: Any) -> None:
    pending = [inference.async_infer("sentiment-bilstm", [texts()]) for _ in range(3)]
    logits = [each.get_result().as_numpy("logits") for each in pending]
    np.testing.assert_array_equal(logits[0], logits[2])


def test_truncate_and_timeout(inference: Any, client: httpx.Client) -> None:
    long = texts(["good " * 5000])
    with pytest.raises(InferenceServerException, match="/inputs/0/data/0: At least"):
        inference.infer("sentiment-bilstm", [long])
    assert inference.infer("sentiment-bilstm", [long], parameters={"truncate": True}).as_numpy("lengths")[0] == 4096
    with pytest.raises(InferenceServerException, match="deadline") as late:
        inference.infer("sentiment-bilstm", [texts(["good " * 4000] * 40)], timeout=1)
    assert late.value.status() == "504"


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "/inputs: The field is missing"),
        ({"inputs": []}, "/inputs"),
        (body(name="texts"), "/inputs/0/name"),
        (body(datatype="FP32"), "/inputs/0/datatype"),
        (body(shape=[2]), "1 came"),
        (body(shape=[1, 1, 1]), "/inputs/0/shape"),
        (body(shape=[0], data=[]), "/inputs/0/shape"),
        (body(data=[1]), "/inputs/0/data/0"),
        (body(data=None), "either data"),
        (body(data=[""]), "/inputs/0/data/0: The text is empty"),
        ({**body(), "outputs": [{"name": "labels"}]}, "/outputs/0/name: There is no output 'labels'"),
        ({**body(), "outputs": [{"name": "label"}, {"name": "label"}]}, "/outputs/1/name"),
        ({**body(), "outputs": [{"name": "gate.1.forward.forget"}]}, "gate.0.forward.forget"),
        ({**body(), "outputs": {}}, "/outputs"),
        ({**body(), "outputs": [{}]}, "/outputs/0/name"),
        ({**body(), "outputs": [{"name": "label", "parameters": {"binary_data": "yes"}}]}, "binary_data"),
        ({**body(), "parameters": {"timeout": -1}}, "/parameters/timeout"),
        ({**body(), "parameters": {"truncate": "yes"}}, "/parameters/truncate"),
        ({**body(), "inputs": None}, "/inputs"),
        ({**body(), "inputs": []}, "/inputs: The list is empty"),
        ({**body(), "inputs": [*body()["inputs"]] * 2}, "/inputs: List should have at most 1 item, not 2."),
        ({**body(), "parameters": "x"}, '/parameters: An object is expected, not "x".'),
        ({**body(), "parameters": [1]}, "/parameters: An object is expected, not a list."),
        ({**body(), "inputs": [3]}, "/inputs/0: An object is expected, not 3."),
        (body(parameters={"binary_data_size": -1}), "/inputs/0/parameters/binary_data_size"),
        (body(data=[], parameters=None), "either data"),
        (body(shape=None), "/inputs/0/shape"),
        ([], "object"),
    ],
)
def test_422(client: httpx.Client, request_: Any, words: str) -> None:
    assert words in error(infer(client, request_), 422)


def test_other_errors(client: httpx.Client) -> None:
    error(infer(client, body(), "nothing"), 404)
    error(client.post("/v2/models/sentiment-bilstm/versions/9/infer", json=body()), 404)
    error(client.get("/v2/nowhere"), 404)
    error(client.get("/v2/models/sentiment-bilstm/infer"), 405)
    assert "300" in error(infer(client, body(shape=[300], data=["a"] * 300)), 413)
    assert "padding" in error(infer(client, body(shape=[256], data=["a " * 4000] + ["a"] * 255), "ner-bilstm"), 413)
    error(client.post("/v2/models/sentiment-bilstm/infer", content=b"a", headers={"Content-Type": "text/csv"}), 415)
    error(client.post("/v2/models/sentiment-bilstm/infer", content=b"a", headers={"Content-Encoding": "br"}), 415)
    error(client.post("/v2/models/sentiment-bilstm/infer", content=b"{"), 400)


def test_binary_text_that_is_not_what_it_says(client: httpx.Client) -> None:
    path = "/v2/models/sentiment-bilstm/infer"
    good = struct.pack("<I", 1) + b"a"
    assert client.post(path, **binary(good, len(good))).status_code == 200
    assert "binary_data_size" in error(client.post(path, **binary(good, 4)), 400)
    assert "element 0" in error(client.post(path, **binary(good[:-1], 4)), 400)
    assert "element 1" in error(client.post(path, **binary(good + b"\x01", 6)), 400)
    assert "UTF-8" in error(client.post(path, **binary(struct.pack("<I", 1) + b"\xff", 5)), 400)
    assert "Content-Length" in error(client.post(path, **binary(good, 5, header="-1")), 400)
    assert "Content-Length" in error(client.post(path, **binary(good, 5, header="99999")), 400)
    assert "elements" in error(client.post(path, **binary(good * 3, 15, count=2)), 422)


def test_keys_and_health(start: Start) -> None:
    service = start(SERVICE_API_KEYS="a-key").until_ready()
    client = connect(service)
    assert client.is_server_live()
    assert client.is_server_ready()
    error(service.client.get("/v2"), 401)
    assert client.get_server_metadata(headers={"Authorization": "Bearer a-key"})["name"] == "gatelight"
    client.close()


def test_the_index_and_changes_that_are_not_enabled(inference: Any) -> None:
    index = inference.get_model_repository_index()
    assert {"name": "ner-bigru", "version": "1", "state": "READY", "reason": ""} in index
    for change in (inference.load_model, inference.unload_model):
        with pytest.raises(InferenceServerException, match=r"no route .* without --admin"):
            change("ner-bigru")


def test_load_and_unload(start: Start) -> None:
    service = start("--admin").until_ready()
    client = connect(service)
    client.unload_model("ner-bigru")
    assert not client.is_model_ready("ner-bigru")
    states = {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}
    assert states["ner-bigru"] == "UNAVAILABLE"
    assert states["ner-bilstm"] == "READY"
    assert service.client.post("/v2/repository/index/", json={"ready": None, "x": 1}).status_code == 200
    ready = service.client.post("/v2/repository/index", json={"ready": True}).json()
    assert "ner-bigru" not in {entry["name"] for entry in ready}
    client.load_model("ner-bigru")
    assert client.is_model_ready("ner-bigru")
    with pytest.raises(InferenceServerException, match="no bundle of 'nothing'"):
        client.load_model("nothing")
    for path in ("load", "unload", "load"):
        lenient = {"parameters": {"mine": 1, "config": None}, "x": None}
        assert service.client.post(f"/v2/repository/models/ner-bigru/{path}/", json=lenient).status_code == 200
    with pytest.raises(InferenceServerException, match="/parameters/config"):
        client.load_model("ner-bigru", config="{}")
    client.close()
