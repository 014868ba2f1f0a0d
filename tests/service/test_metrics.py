"""The text of `/metrics`: read back with Prometheus's own parser."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import FAMILIES, PREFIX, Metrics
from service.tally import MEMORY_BYTES, Board
from tests.patience import PATIENCE

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(metrics: Metrics) -> Samples:
    families = text_string_to_metric_families(metrics.text().decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def sample(found: Samples, name: str, **labels: str) -> float:
    return found[PREFIX + name, frozenset(labels.items())]


def busy() -> Metrics:
    """Every family with a number in it."""
    metrics = Metrics()
    metrics.request("/predict", "POST", 200, 0.004)
    metrics.request("/predict", "POST", 200, 40.0)
    metrics.request("none", "PROPFIND", 404, 0.001)
    metrics.batch(3, 50, 60, (0.0, 0.001, 0.002), 0.003)
    metrics.stage("decode", 0.001)
    metrics.refused("full")
    metrics.board.number("model_info", "ner-bilstm", "1", "ner", "lstm", "cpu").set(1)
    return metrics


def test_what_was_counted_is_what_is_said() -> None:
    found = samples(busy())
    assert sample(found, "requests_total", route="/predict", method="POST", status="200") == 2
    assert sample(found, "requests_total", route="none", method="other", status="404") == 1
    assert sample(found, "request_seconds_bucket", route="/predict", le="0.0025") == 0
    assert sample(found, "request_seconds_bucket", route="/predict", le="0.005") == 1
    assert sample(found, "request_seconds_bucket", route="/predict", le="+Inf") == 2
    assert sample(found, "request_seconds_count", route="/predict") == 2
    assert sample(found, "request_seconds_sum", route="/predict") == pytest.approx(40.004)
    assert sample(found, "batch_rows_bucket", le="3.0") == 1
    assert sample(found, "batch_tokens_total") == 50
    assert sample(found, "batch_padded_tokens_total") == 60
    assert sample(found, "stage_seconds_count", stage="queue") == 3
    assert sample(found, "stage_seconds_sum", stage="run") == pytest.approx(0.003)
    assert sample(found, "refusals_total", reason="full") == 1


def test_several_workers_are_one_sum_and_a_model_is_one_model() -> None:
    memories = [memoryview(bytearray(MEMORY_BYTES)) for _ in range(3)]
    boards = [Board(FAMILIES, memory) for memory in memories]
    for number, board in enumerate(boards):
        worker = Metrics(board, boards)
        worker.request("/predict", "POST", 200, 0.01 * number)
        board.number("model_info", "m", "1", "ner", "lstm", "cpu").set(1)
        board.track("workers", read=lambda: 1)
        board.publish()
    boards[2].clear_gauges()
    found = samples(Metrics(boards[0], [Board(FAMILIES, memory) for memory in memories]))
    assert sample(found, "requests_total", route="/predict", method="POST", status="200") == 3
    assert sample(found, "request_seconds_count", route="/predict") == 3
    assert sample(found, "workers") == 2
    assert sample(found, "model_info", model="m", version="1", task="ner", cell="lstm", provider="cpu") == 1


def test_a_model_that_has_gone_is_not_listed() -> None:
    metrics = busy()
    metrics.board.clear_gauges("model_info")
    assert not any(name == f"{PREFIX}model_info" for name, _ in samples(metrics))


def test_prometheus_finds_nothing_to_object_to() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=busy().text(), capture_output=True, check=False, timeout=PATIENCE
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
