"""Fixtures of a service over connections in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundles import tiny_bundle
from tests.service.process.talking import Run, runner


@pytest.fixture(scope="session")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model of each task."""
    folder = tmp_path_factory.mktemp("models")
    tiny_bundle(folder / "sentiment-bilstm")
    tiny_bundle(folder / "ner-bilstm", task="ner")
    return folder


@pytest.fixture
def running(two_models: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a test with a service that has loaded both models."""
    return runner(two_models, monkeypatch)
