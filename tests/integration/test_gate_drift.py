"""Gate drift over HTTP: samples of live traffic, their metrics, and the distance from training."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.http.schemas.responses import GateReport
from service.model import bundle as bundles
from service.model.bundle import TOKENIZER
from service.model.engine import Engine
from service.model.tokenizer import Tokenizer
from tests.integration.conftest import Start
from tests.integration.models import write_model
from tests.patience import until
from training.export.writing import replace_manifest
from training.scoring.gate_drift import measure

TRAINED = ["a great film", "the movie is fine", "a very good film", "it was great", "a good movie ."] * 8
OTHER = ["dull dull dull bad bad bad bad", "not n't not n't bad dull !"] * 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository of one model whose manifest knows how its gates do."""
    repository = tmp_path / "models"
    write_model(repository / "sentiment-bilstm")
    found = bundles.load(repository / "sentiment-bilstm" / "1")
    tokenizer = Tokenizer.load(found.file(TOKENIZER), found.manifest.features)
    rows = [tokenizer.encode(text, 100).rows for text in TRAINED]
    measured = measure(found, Engine(found), rows, "dev")
    replace_manifest(found, found.manifest.model_copy(update={"gate_statistics": measured}))
    written = json.loads((repository / "sentiment-bilstm" / "1" / "model.json").read_text("utf-8"))
    assert written["health"]["data"] == "dev", "the key of files on disk"
    return repository


@pytest.mark.parametrize("flags", [[], ["--full-metrics"]])
def test_traffic_like_the_dev_set_has_not_drifted_and_other_traffic_has(
    start: Start, folder: Path, flags: list[str]
) -> None:
    client = start("--gate-sample", "1", *flags, models=folder).until_ready().client
    drifted, sent = [], 0
    for texts in (TRAINED, OTHER):
        for text in texts:
            client.post("/predict", json={"inputs": text}).raise_for_status()
            sent += 1
            report = _wait(client, sent)
        GateReport.model_validate(report)
        drifted.append(report["drift"]["largest"])
    assert drifted[0] < 0.1
    assert drifted[1] > 2 * drifted[0]
    assert report["trained"]["data"] == "dev"
    shown = re.findall(r"^gatelight_gate_drift{(.*)} (.*)$", client.get("/metrics").text, re.MULTILINE)
    gates = {(each["layer"], each["direction"], each["gate"]): each["psi"] for each in report["drift"]["gates"]}
    assert len(shown) == (len(gates) if flags else 1)
    assert max(float(value) for _, value in shown) == pytest.approx(report["drift"]["largest"])
    assert all(('gate="' in labels) is bool(flags) for labels, _ in shown)


def test_the_metrics_are_those_of_the_trace(start: Start, folder: Path) -> None:
    client = start("--gate-sample", "1", "--full-metrics", models=folder).until_ready().client
    text = "a very good film"
    client.post("/predict", json={"inputs": text}).raise_for_status()
    _wait(client, 1)
    trace = client.post("/gates", json={"inputs": text, "decimals": None}).json()["traces"][0]
    metrics = client.get("/metrics").text
    labels = 'direction="backward",gate="forget",layer="0",model="sentiment-bilstm",version="1"'
    forget = np.array(trace["layers"][1]["gates"]["forget"])
    assert _sample(metrics, "gate_activation_count", labels) == forget.shape[1]
    assert _sample(metrics, "gate_activation_sum", labels) == pytest.approx(forget.mean(axis=0).sum(), rel=1e-5)
    assert _sample(metrics, "gate_saturation_above_sum", labels) == pytest.approx((forget > 0.9).mean(axis=0).sum())
    horizons = -1 / np.log(forget).mean(axis=0)
    assert _sample(metrics, "gate_horizon_steps_sum", labels) == pytest.approx(horizons.sum(), rel=1e-4)
    live = client.get("/models/sentiment-bilstm").json()["health"]["live"]
    shown = next(each for each in live["gates"] if each["gate"] == "forget" and each["direction"] == "backward")
    assert shown["activation"] == pytest.approx(forget.mean(), rel=1e-5)


def test_nothing_is_sampled_where_the_setting_says_so(start: Start, folder: Path) -> None:
    client = start("--gate-sample", "0", models=folder).until_ready().client
    client.post("/predict", json={"inputs": ["a good film"] * 50}).raise_for_status()
    report = client.get("/models/sentiment-bilstm").json()["health"]
    assert (report["live"]["texts"], report["live"]["share"], report["drift"]["largest"]) == (0, 0, None)


def _wait(client: httpx.Client, texts: int) -> Any:
    """The model's gate report, once so many texts have been counted: a sample is counted after its answer."""

    def report() -> Any:
        return client.get("/models/sentiment-bilstm").json()["health"]

    until(lambda: report()["live"]["texts"] == texts, report)
    return report()


def _sample(metrics: str, name: str, labels: str) -> float:
    wanted = set(labels.split(","))
    for line in metrics.splitlines():
        if line.startswith(f"gatelight_{name}{{"):
            inside, _, value = line.partition("{")[2].partition("} ")
            if set(inside.split(",")) == wanted:
                return float(value)
    raise AssertionError(f"no {name} with {labels}")
