"""`/gates` over HTTP: what it returns, and that the numbers obey the equations it prints."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load

from service.http.schemas.responses import Traces
from service.model import bundle as bundles
from service.model.equations import equations, gate_names
from tests import deviation
from tests.bundles import Kind, named
from tests.integration.models import HIDDEN
from tests.patience import PATIENCE

TEXTS: list[str | list[str]] = ["A great film.", "Ada lived in London . " * 30, "bad", ["It", "'s", "not", "a film"]]
MODELS: dict[str, tuple[Kind, int, int]] = {
    "sentiment-bilstm": ("lstm", 1, 2),
    "sentiment-lstm": ("lstm", 2, 1),
    "sentiment-gru": ("gru", 1, 1),
    "sentiment-bigru": ("gru", 2, 2),
    "ner-bilstm": ("lstm", 1, 2),
    "ner-bigru": ("gru", 1, 2),
    "sentiment-rnn": ("rnn", 1, 1),
    "sentiment-birnn": ("rnn", 2, 2),
    "sentiment-peephole": ("peephole", 1, 1),
    "sentiment-bipeephole": ("peephole", 2, 2),
    "sentiment-gru-before": ("gru-before", 1, 1),
    "ner-bigru-before": ("gru-before", 2, 2),
    "sentiment-peephole-full": ("peephole-full", 1, 2),
    "sentiment-mingru": ("mingru", 1, 1),
    "sentiment-biminlstm": ("minlstm", 2, 2),
    "ner-bimingru": ("mingru", 1, 2),
    "sentiment-mingru-window": ("mingru", 1, 1),
    "ner-biminlstm-window": ("minlstm", 1, 2),
}
Array = NDArray[np.float64]


def gates(client: httpx.Client, **request: Any) -> dict[str, Any]:
    response = client.post("/gates", json=request, headers={"X-Request-Timeout": f"{PATIENCE:g}"})
    assert response.status_code == 200, response.text
    Traces.model_validate_json(response.content)
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.parametrize("model", MODELS)
def test_the_numbers_obey_the_equations(client: httpx.Client, model: str) -> None:
    kind, layers, directions = MODELS[model]
    cell, reset = named(kind)
    answer = gates(client, model=model, inputs=TEXTS, decimals=None)
    assert answer["cell"] == cell
    window = {"sentiment-mingru-window": "x_t = [e_{t-2}, e_{t-1}, e_t]"}.get(model)
    window = window or {"ner-biminlstm-window": "x_t = [e_{t-1}, e_t, e_{t+1}]"}.get(model)
    assert answer["equations"] == equations(cell, reset, window)
    for trace in answer["traces"]:
        assert len(trace["layers"]) == layers * directions
        for layer in trace["layers"]:
            arrays = {gate: np.array(rows) for gate, rows in layer["gates"].items()}
            assert list(arrays) == list(gate_names(cell))
            assert all(array.shape == (len(trace["tokens"]), HIDDEN) for array in arrays.values())
        for first, end, sentence in deviation.by_sentence(trace):
            for layer in sentence:
                order = slice(None, None, -1 if layer["direction"] == "backward" else 1)
                arrays = {gate: np.array(rows)[order] for gate, rows in layer["gates"].items()}
                if cell != "rnn":  # whose only gate is the state itself: the next test recomputes it from the weights
                    assert _deviation(cell, arrays) < 1e-6, (first, end)


@pytest.mark.parametrize("model", MODELS)
def test_every_gate_is_what_the_weights_make_of_the_inputs(client: httpx.Client, repository: Path, model: str) -> None:
    bundle = bundles.load(repository / model / "1")
    worst = deviation.of_model(client, bundle, TEXTS)
    assert set(worst) == set(gate_names(bundle.manifest.cell))
    assert max(worst.values()) < 1e-5


def test_models_name_where_the_reset_gate_acts(client: httpx.Client) -> None:
    found = {model["name"]: model["gru_reset"] for model in client.get("/models").json()["models"]}
    assert found["sentiment-gru"] == "after"
    assert found["sentiment-gru-before"] == found["ner-bigru-before"] == "before"
    assert found["sentiment-lstm"] is found["sentiment-rnn"] is None


def _deviation(cell: str, rows: dict[str, Array]) -> float:
    """How far the states are from what the gates and the states before make of them, rows in reading order."""
    before = {state: np.vstack([np.zeros(HIDDEN), rows[state][:-1]]) for state in ("hidden", "cell") if state in rows}
    if cell == "minlstm":
        assert rows["forget"] + rows["input"] == pytest.approx(1, abs=1e-6)
        hidden = rows["forget"] * before["hidden"] + rows["input"] * rows["candidate"]
        return float(np.abs(hidden - rows["hidden"]).max())
    if cell in ("gru", "mingru"):
        update = rows["update"]
        hidden = (1 - update) * before["hidden"] + update * rows["candidate"]
        return float(np.abs(hidden - rows["hidden"]).max())
    state = rows["forget"] * before["cell"] + rows["input"] * rows["candidate"]
    hidden = rows["output"] * np.tanh(rows["cell"])
    return float(max(np.abs(state - rows["cell"]).max(), np.abs(hidden - rows["hidden"]).max()))


@pytest.mark.parametrize("model", MODELS)
def test_predictions_are_those_of_predict(client: httpx.Client, model: str) -> None:
    predicted = client.post("/predict", json={"model": model, "inputs": TEXTS}).json()["predictions"]
    for trace, prediction in zip(gates(client, model=model, inputs=TEXTS)["traces"], predicted, strict=True):
        assert trace["prediction"].keys() == prediction.keys()
        if "label" in prediction:
            assert trace["prediction"]["label"] == prediction["label"]
            assert trace["prediction"]["score"] == pytest.approx(prediction["score"], abs=1e-5)
        else:
            labels = [[entity["label"] for entity in one["entities"]] for one in (trace["prediction"], prediction)]
            assert labels[0] == labels[1]


def test_alone_or_together_the_same_numbers(client: httpx.Client) -> None:
    together = gates(client, inputs=TEXTS, decimals=None)["traces"]
    for text, trace in zip(TEXTS, together, strict=True):
        assert gates(client, inputs=[text], decimals=None)["traces"] == [trace]


def test_contributions_sum_to_the_logits(client: httpx.Client) -> None:
    for model in (name for name, (cell, *_) in MODELS.items() if name.startswith("sentiment") and cell != "rnn"):
        for trace in gates(client, model=model, inputs=TEXTS)["traces"]:
            given = trace["contributions"]
            assert given["of"] == ("tokens" if MODELS[model][1] == 1 else "top-layer positions")
            assert ("window" in given["method"]) == model.endswith("-window")
            assert np.array(given["tokens"]).shape == (len(trace["tokens"]), 2)
            sums = np.array(given["bias"]) + np.array(given["tokens"]).sum(axis=0)
            assert sums == pytest.approx(np.array(given["logits"]), abs=1e-3)
            powers = np.exp(given["logits"])
            assert powers / powers.sum() == pytest.approx(
                np.array(list(trace["prediction"]["scores"].values())), abs=1e-5
            )


@pytest.mark.parametrize("model", ["sentiment-rnn", "sentiment-birnn"])
def test_an_elman_cell_has_no_contributions_and_says_why(client: httpx.Client, model: str) -> None:
    for trace in gates(client, model=model, inputs=TEXTS)["traces"]:
        assert trace["contributions"] is None
        assert "no additive state" in trace["contributions_note"]


def test_a_taggers_contributions_are_of_one_token(client: httpx.Client) -> None:
    (trace,) = gates(client, task="ner", inputs="Ada lived in London .")["traces"]
    assert trace["contributions"] is None
    assert "explain" in trace["contributions_note"]
    (trace,) = gates(client, task="ner", inputs="Ada lived in London .", explain=3)["traces"]
    given = trace["contributions"]
    assert np.array(given["bias"]) + np.array(given["tokens"]).sum(axis=0) == pytest.approx(given["logits"], abs=1e-3)


def test_contributions_can_be_left_out(client: httpx.Client) -> None:
    (trace,) = gates(client, inputs="a film", contributions=False)["traces"]
    assert trace["contributions"] is None
    assert "contributions_note" not in trace


def test_selection(client: httpx.Client) -> None:
    whole = gates(client, model="sentiment-bigru", inputs=TEXTS)
    some = gates(
        client,
        model="sentiment-bigru",
        inputs=TEXTS,
        gates=["hidden", "update"],
        layers=[1],
        directions=["backward"],
        units=[9, 0, 4],
    )
    for all_of, cut in zip(whole["traces"], some["traces"], strict=True):
        (layer,) = cut["layers"]
        full = all_of["layers"][3]
        assert (layer["layer"], layer["direction"]) == (full["layer"], full["direction"]) == (1, "backward")
        assert list(layer["gates"]) == ["hidden", "update"]
        for gate, rows in layer["gates"].items():
            assert rows == [[row[9], row[0], row[4]] for row in full["gates"][gate]]
        assert cut["contributions"] == all_of["contributions"]


def test_a_summary_is_of_the_selected_units(client: httpx.Client) -> None:
    chosen = {"inputs": TEXTS, "units": [1, 2, 5], "decimals": None}
    whole, summary = gates(client, **chosen), gates(client, **chosen, reduce="summary")
    for trace, reduced in zip(whole["traces"], summary["traces"], strict=True):
        for layer, small in zip(trace["layers"], reduced["layers"], strict=True):
            for gate, rows in layer["gates"].items():
                array = np.array(rows)
                expected = {
                    "mean": array.mean(axis=1),
                    "std": array.std(axis=1),
                    "below": (array < 0.1).mean(axis=1),
                    "above": (array > 0.9).mean(axis=1),
                }
                assert list(small["gates"][gate]) == list(expected)
                for name, values in expected.items():
                    assert np.array(small["gates"][gate][name]) == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("decimals", [0, 2, 4, 17])
def test_decimals_round_the_gates_and_nothing_else(client: httpx.Client, decimals: int) -> None:
    exact = gates(client, inputs="A great film.", decimals=None)["traces"][0]
    rounded = gates(client, inputs="A great film.", decimals=decimals)["traces"][0]
    for layer, short in zip(exact["layers"], rounded["layers"], strict=True):
        for gate, rows in layer["gates"].items():
            assert np.array(short["gates"][gate]) == pytest.approx(np.round(np.array(rows), decimals), abs=1e-7)
            if decimals < 10:
                digits = [len(repr(number).partition(".")[2]) for row in short["gates"][gate] for number in row]
                assert max(digits) <= max(decimals, 1)
    assert exact["contributions"] == rounded["contributions"]
    assert exact["prediction"] == rounded["prediction"]


def test_four_decimals_are_the_default(client: httpx.Client) -> None:
    assert gates(client, inputs=TEXTS) == gates(client, inputs=TEXTS, decimals=4)


@pytest.mark.parametrize("reduce", ["none", "summary"])
def test_safetensors_hold_the_same(client: httpx.Client, reduce: str) -> None:
    request = {"model": "sentiment-bigru", "inputs": TEXTS, "decimals": None, "reduce": reduce, "units": [3, 1]}
    response = client.post("/gates", json=request, headers={"Accept": "application/vnd.safetensors"})
    assert response.headers["Content-Type"] == "application/vnd.safetensors"
    tensors = load(response.content)
    expected = gates(client, **request)
    names = set()
    for number, trace in enumerate(expected["traces"]):
        for layer in trace["layers"]:
            for gate, value in layer.pop("gates").items():
                arrays = {gate: value} if reduce == "none" else {f"{gate}.{key}": value[key] for key in value}
                for name, rows in arrays.items():
                    key = f"{number}/{layer['layer']}/{layer['direction']}/{name}"
                    names.add(key)
                    assert tensors[key].dtype == np.float32
                    assert np.array_equal(tensors[key], np.array(rows, np.float32))
    assert names == set(tensors)
    (size,) = struct.unpack("<Q", response.content[:8])
    assert json.loads(json.loads(response.content[8 : 8 + size])["__metadata__"]["response"]) == expected


@pytest.mark.parametrize(
    ("accept", "status", "kind"),
    [
        ("*/*", 200, "json"),
        ("application/json", 200, "json"),
        ("application/*;q=0.5", 200, "json"),
        ("application/vnd.safetensors;q=0.9, application/json;q=0.5", 200, "safetensors"),
        ("application/vnd.safetensors;q=0.2, application/json", 200, "json"),
        ("application/vnd.safetensors, */*;q=0.1", 200, "safetensors"),
        ("application/vnd.safetensors, */*", 200, "safetensors"),
        ("text/html, application/json;q=0, application/vnd.safetensors;q=0", 200, "application/json"),
        ("text/html", 200, "application/json"),
    ],
)
def test_accept(client: httpx.Client, accept: str, status: int, kind: str) -> None:
    response = client.post("/gates", json={"inputs": "a film"}, headers={"Accept": accept})
    assert response.status_code == status
    assert response.headers["Content-Type"].endswith(kind)


def test_accept_may_come_in_several_lines(client: httpx.Client) -> None:
    tensors, anything = ("Accept", "application/vnd.safetensors"), ("Accept", "*/*")
    body = b'{"inputs":"a film"}'
    for lines in ([tensors, anything], [anything, tensors]):
        headers = [("Host", "x"), ("Content-Type", "application/json"), *lines]
        answer = client.send(httpx.Request("POST", client.base_url.join("/gates"), content=body, headers=headers))
        assert answer.headers["Content-Type"] == "application/vnd.safetensors", lines


def test_a_large_answer_is_whole(client: httpx.Client) -> None:
    inputs = ["Ada lived in London . " * 600] * 6
    answer = gates(client, inputs=inputs)
    first = answer["traces"][0]
    assert len(first["tokens"]) == 3000
    assert all(trace == first for trace in answer["traces"])


@pytest.mark.parametrize("model", ["sentiment-bilstm", "sentiment-gru"])
def test_statistics_of_units_over_the_text(client: httpx.Client, model: str) -> None:
    asked = {"model": model, "inputs": "a very good film , not dull", "decimals": None}
    whole = client.post("/gates", json=asked).json()["traces"][0]["layers"]
    answer = client.post("/gates", json={**asked, "reduce": "summary", "statistics": True, "units": [3, 1]})
    Traces.model_validate_json(answer.content)
    for raw, part in zip(whole, answer.json()["traces"][0]["layers"], strict=True):
        found = part["statistics"]
        for gate, rows in raw["gates"].items():
            values = np.array(rows)[:, [3, 1]]
            assert found["gates"][gate]["mean"] == pytest.approx(values.mean(axis=0), abs=1e-6)
            assert found["gates"][gate]["change"] == pytest.approx(
                np.abs(np.diff(values, axis=0)).mean(axis=0), abs=1e-6
            )
            if gate in ("forget", "input", "output", "update", "reset"):
                assert found["gates"][gate]["below"] == pytest.approx((values < 0.1).mean(axis=0))
        kept = 1 - np.array(raw["gates"]["update"]) if "update" in raw["gates"] else np.array(raw["gates"]["forget"])
        assert found["horizon"] == pytest.approx(-1 / np.log(kept[:, [3, 1]]).mean(axis=0), rel=1e-4)
    binary = client.post(
        "/gates", json={**asked, "statistics": True}, headers={"Accept": "application/vnd.safetensors"}
    )
    tensors = load(binary.content)
    assert tensors["0/0/forward/statistics/horizon"].shape == (HIDDEN,)
    assert "statistics" not in client.post("/gates", json=asked).text
