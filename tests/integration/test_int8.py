"""A model of integers behind HTTP: it says so, answers alone as in company, and its gates are float32."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.bundles import ORIGIN, architecture, network, tokenizer
from tests.integration.conftest import Process
from training.export.bundle import export

NAME = "sentiment-bilstm-int8"
TEXTS = ["a fine film", "not good", "the movie is very dull , and it 's not the film " * 20, "great"]


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("int8")
    shape = architecture(hidden=16)
    made = network(shape)
    export(made, tokenizer(shape), ORIGIN, "CC0-1.0", folder / "models" / NAME, lambda _: [], precision="int8")
    process = Process(folder, folder / "models")
    yield process.until_ready()
    process.close()


def test_models_says_so(int8: Process) -> None:
    model = int8.client.get(f"/models/{NAME}").json()
    assert (model["precision"], model["provider"], model["parity"]["batch"]) == ("int8", "cpu", 0)
    assert model["placement"]["recurrent"] == {"cpu": 1}


def test_answers_alone_are_those_in_company(int8: Process) -> None:
    together = int8.client.post("/predict", json={"inputs": TEXTS}).json()["predictions"]
    alone = [int8.client.post("/predict", json={"inputs": text}).json()["predictions"][0] for text in TEXTS]
    assert together == alone


def test_gates_follow_their_equations_and_predict_closely(int8: Process) -> None:
    answer = int8.client.post("/gates", json={"inputs": TEXTS[0], "decimals": None}).json()
    (trace,) = answer["traces"]
    predicted = int8.client.post("/predict", json={"inputs": TEXTS[0]}).json()["predictions"][0]
    assert 0 < abs(trace["prediction"]["scores"]["positive"] - predicted["scores"]["positive"]) < 0.05
    gates = {name: np.array(rows) for name, rows in trace["layers"][0]["gates"].items()}
    before = np.vstack([np.zeros(16), gates["cell"][:-1]])
    cell = gates["forget"] * before + gates["input"] * gates["candidate"]
    np.testing.assert_allclose(gates["cell"], cell, atol=1e-6)
    np.testing.assert_allclose(gates["hidden"], gates["output"] * np.tanh(cell), atol=1e-6)
    shares = np.array(trace["contributions"]["tokens"]).sum(0) + trace["contributions"]["bias"]
    np.testing.assert_allclose(shares, trace["contributions"]["logits"], atol=1e-3)
