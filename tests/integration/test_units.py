"""`GET /models/NAME/units/…`: cards over HTTP."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import httpx
import pytest

from service.client import Client, NotFound
from service.model.bundle import UNITS
from tests.bundles import tiny_bundle
from tests.integration.conftest import Start
from tests.service.model.test_unit_cards import document, with_cards
from training.export.writing import replace_manifest


def test_a_card_is_served(start: Start, tmp_path: Path) -> None:
    models = tmp_path / "repository"
    made = with_cards(tiny_bundle(models / "sentiment-bilstm"))
    other = tiny_bundle(models / "sentiment-broken")
    replace_manifest(other, other.manifest, {UNITS: b"{}"})
    client = start(models=models).until_ready().client
    card = client.get("/models/sentiment-bilstm/units/0/backward/3").raise_for_status().json()
    assert card["places"] == [{"line": 5, "token": 3, "value": 0.5}]
    assert card["data"] == {"name": "set dev", "sha256": "0" * 64, "inputs": 9}
    assert card["ablation"]["cost"] == document(made)["layers"][1]["cost"][3]
    assert set(card["logits"]) == {"negative", "positive"}
    assert client.get("/models/sentiment-bilstm").json()["cards"] is True
    assert client.get("/models/sentiment-bilstm/versions/1/units/0/backward/3").json() == card
    assert client.get("/models/sentiment-bilstm/versions/2/units/0/backward/3").status_code == 404
    with Client(str(client.base_url)) as python:
        typed = python.unit("sentiment-bilstm", 3, direction="backward")
        assert json.loads(json.dumps(asdict(typed))) == card
        assert python.unit("sentiment-bilstm", 3, direction="backward", version="1") == typed
        with pytest.raises(NotFound, match="it has layer 0, forward and backward, units 0 to 7"):
            python.unit("sentiment-bilstm", 8)
    (refused,) = client.get("/models").json()["refused"]
    assert refused["name"] == "sentiment-broken"
    assert refused["reason"].startswith("units.json: ")


def test_a_unit_of_a_bundle_without_cards_has_its_direction_alone(client: httpx.Client) -> None:
    card = client.get("/models/sentiment-bilstm/units/0/forward/0").raise_for_status().json()
    assert (card["data"], card["places"], card["ablation"]) == (None, None, None)
    assert set(card["logits"]) == {"negative", "positive"}
    assert client.get("/models/sentiment-lstm/units/0/forward/0").json()["logits"] is None  # below the top layer


@pytest.mark.parametrize(
    "path", ["1/forward/0", "0/backward/0", "0/sideways/0", "0/forward/16", "0/forward/-1", "00/forward/0"]
)
def test_a_unit_that_is_not_there(client: httpx.Client, path: str) -> None:
    answer = client.get(f"/models/sentiment-gru/units/{path}")
    assert answer.status_code == 404
    assert answer.json()["detail"] == f"sentiment-gru has no unit {path}; it has layer 0, forward, units 0 to 15."
    assert client.get("/models/nobody/units/0/forward/0").status_code == 404
