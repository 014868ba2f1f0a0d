"""`/v2` through KServe's own client, which lives in an environment of its own: it pins what others need newer."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import httpx
import pytest

from tests.integration.conftest import ROOT, Process

PYTHON = ROOT / ".venv-clients" / "bin" / "python"
TEXTS = ["A great film.", "a dull one", "naïve 🎉 " + "good " * 5000]

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="kserve is not installed: make clients")


@pytest.fixture(scope="module")
def found(service: Process) -> Any:
    """What the client was answered."""
    script = ROOT / "tests" / "clients" / "kserve_client.py"
    command = [str(PYTHON), str(script), service.url, "sentiment-bilstm", *TEXTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_health(found: Any) -> None:
    assert (found["live"], found["ready"], found["model"]) == (True, True, True)


@pytest.mark.parametrize("how", ["json", "binary"])
def test_answers_are_those_of_predict(found: Any, client: httpx.Client, how: str) -> None:
    body = {"model": "sentiment-bilstm", "inputs": TEXTS, "truncate": True}
    expected = client.post("/predict", json=body).json()["predictions"]
    answer = found[how]
    assert (answer["id"], answer["model"]) == ("an-id", "sentiment-bilstm")
    assert answer["parameters"] == {"truncated": True}
    assert answer["outputs"]["label"] == [each["label"] for each in expected]
    scores = [float(score) for score in answer["outputs"]["score"]]
    assert scores == pytest.approx([each["score"] for each in expected], abs=1e-6)
    assert answer["outputs"]["lengths"][2] == "4096"


def test_without_outputs(found: Any) -> None:
    assert found["bare"] == ["label", "score", "logits", "lengths"]


def test_an_error_in_its_own_words(found: Any) -> None:
    assert "/inputs/0/shape" in found["error"]
    assert "422" in found["error"]
