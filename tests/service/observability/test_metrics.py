"""The text of `/metrics`: read back with Prometheus's own parser."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.errors import Refusal
from service.observability.metrics import FAMILIES, GATE_FAMILIES, ON_BOARD, PREFIX, Metrics
from service.observability.shared_metrics import MEMORY_BYTES, Board
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
    metrics.answered("/predict", "POST", 200, 0.004, {"decode": 0.001})
    metrics.answered("/predict", "POST", 200, 40.0)
    metrics.answered("none", "PROPFIND", 404, 0.001)
    metrics.batch(3, 50, 60, (0.0, 0.001, 0.002), 0.003)
    metrics.refused(Refusal.FULL)
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
        worker.answered("/predict", "POST", 200, 0.01 * number)
        board.number("model_info", "m", "1", "ner", "lstm", "cpu").set(1)
        board.track("workers", read=lambda: 1)
        board.publish()
    boards[2].clear_gauges()
    found = samples(Metrics(boards[0], [Board(FAMILIES, memory) for memory in memories]))
    assert sample(found, "requests_total", route="/predict", method="POST", status="200") == 3
    assert sample(found, "request_seconds_count", route="/predict") == 3
    assert sample(found, "workers") == 2
    assert sample(found, "model_info", model="m", version="1", task="ner", cell="lstm", provider="cpu") == 1


def test_a_number_that_workers_share_is_listed_at_0() -> None:
    metrics = busy()
    metrics.board.number("sequences").set(0)
    assert sample(samples(metrics), "sequences") == 0


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


def of_models(models: int, *, full: bool) -> Metrics:
    """Metrics of so many models, each of which has been asked, sampled and measured."""
    metrics = busy()
    metrics.full = full
    gates = [(str(layer), direction, gate) for layer in (0, 1) for direction in ("f", "b") for gate in "ficogh"]
    for number in range(models):
        of = (f"sentiment-bilstm-{number}", "1")
        metrics.answered("/predict", "POST", 200, 0.001, {"tokenise": 1e-4, "decode": 1e-4}, of, 1)
        metrics.model_batch(of, 1 + number % 16, 0.001, 0.002)
        metrics.board.number("model_info", *of, "sentiment", "lstm", "cpu").set(1)
        metrics.board.number("model_quality", *of, "sst2 dev", "accuracy").set(0.9)
        metrics.board.number("gate_sampled_texts_total", *of).add(1)
        metrics.board.number("gate_sampled_tokens_total", *of).add(9)
        for name, _ in GATE_FAMILIES.values():
            for gate in gates:
                metrics.board.histogram(name, *of, *gate).observe(0.5)
    return metrics


def test_a_hundred_models_are_a_few_series_each() -> None:
    one, hundred = (of_models(number, full=False).text() for number in (1, 100))
    series = [sum(not line.startswith(b"#") for line in text.splitlines()) for text in (one, hundred)]
    assert series[1] - series[0] <= 6 * 99
    assert len(hundred) < 100_000
    assert b"gate_activation" not in hundred


def test_all_of_it_is_there_where_it_is_asked_for() -> None:
    short, full = (of_models(1, full=full) for full in (False, True))
    assert len(samples(full)) > 10 * len(samples(short))
    of = {"model": "sentiment-bilstm-0", "version": "1"}
    found = samples(full)
    assert sample(found, "model_requests_total", **of, outcome="success") == 1
    assert sample(found, "model_batch_seconds_total", **of, rows="1") == pytest.approx(0.002)
    assert sample(found, "gate_activation_count", **of, layer="1", direction="b", gate="f") == 1
    named = {family.name for family in FAMILIES if family.full}
    assert {name for name, _ in GATE_FAMILIES.values()} <= named
    assert not any(name.removeprefix(PREFIX) in named for name, _ in samples(short))


def test_figures_begin_anew_with_other_content_that_a_replacement_of_the_worker_finds_too() -> None:
    memory, of = memoryview(bytearray(MEMORY_BYTES)), ("a", "1")
    one, two = "1" * 64, "2" * 64

    def replaced() -> Metrics:
        Board(ON_BOARD, memory).clear_gauges()
        return Metrics(Board(ON_BOARD, memory))

    def figures(metrics: Metrics) -> list[float]:
        return [metrics.totals()[name, "a", version, "right"][0] for name in counted for version in ("1", "2")]

    counted = ("feedback_total", "feedback_entities_total")
    metrics = replaced()
    assert metrics.judges(of, one), "there are no figures yet"
    for name in counted:
        for version in ("1", "2"):
            metrics.board.number(name, "a", version, "right").add()
    assert not metrics.judges(of, two)
    metrics = replaced()
    metrics.judge(of, one)
    assert (figures(metrics), metrics.judges(of, one), metrics.judges(of, two)) == ([1, 1, 1, 1], True, False)
    metrics = replaced()
    metrics.judge(of, two)
    assert (figures(metrics), metrics.judges(of, one), metrics.judges(of, two)) == ([0, 1, 0, 1], False, True)
    assert b"content" not in metrics.text().replace(b"content is", b"")


def test_requests_that_are_counted_together_are_counted_as_they_were_one_by_one() -> None:
    of, due = ("a-model", "3"), list[Callable[[], None]]()
    requests: list[tuple[Any, ...]] = [
        ("/predict", "POST", 200, 0.25, {"tokenise": 0.5, "decode": 0.125}, of, 2),
        ("/predict", "POST", 200, 0.5, {"tokenise": 0.25, "decode": 0.25}, of, 1),
        ("/predict", "POST", 422, 0.125, {"tokenise": 0.5}, of, 0),
        ("/models", "GET", 200, 0.5),
        ("/predict", "PROPFIND", 405, 2.0),
    ]
    alone, together = Metrics(), Metrics()
    together.gather(due.append)
    for request in requests:
        alone.answered(*request)
        together.answered(*request)
    assert len(due) == 1, "the event loop is asked once"
    due.pop()()
    for metrics in (alone, together):
        metrics.full = True
    first, second = (samples(each) for each in (alone, together))
    last = PREFIX + "model_last_request_seconds"
    assert all(found.pop((last, frozenset({("model", "a-model"), ("version", "3")}))) > 0 for found in (first, second))
    assert first == second
    assert sample(first, "model_requests_total", model="a-model", version="3", outcome="success") == 2
    assert sample(first, "model_requests_total", model="a-model", version="3", outcome="fail") == 1
    assert sample(first, "model_inputs_total", model="a-model", version="3") == 3
    assert sample(first, "model_request_seconds_total", model="a-model", version="3", outcome="success") == 0.75
    assert sample(first, "model_stage_seconds_total", model="a-model", version="3", stage="tokenise") == 1.25


def test_requests_that_wait_are_counted_when_gathering_ends() -> None:
    metrics, due = Metrics(), list[Callable[[], None]]()
    metrics.gather(due.append)
    metrics.answered("/predict", "POST", 200, 0.25)
    assert not [key for key in samples(metrics) if key[0] == PREFIX + "requests_total"]
    metrics.gather(None)
    metrics.answered("/predict", "POST", 200, 0.25)
    assert sample(samples(metrics), "requests_total", route="/predict", method="POST", status="200") == 2
    due.pop()()
    assert sample(samples(metrics), "requests_total", route="/predict", method="POST", status="200") == 2


def test_work_that_can_wait_is_done_with_the_requests_of_its_turn() -> None:
    metrics, due, done = Metrics(), list[Callable[[], None]](), list[int]()
    metrics.later(lambda: done.append(0))
    assert done == [0], "nothing is gathered yet"
    metrics.gather(due.append)
    metrics.later(lambda: done.append(1))
    metrics.answered("/predict", "POST", 200, 0.25)
    metrics.later(lambda: done.append(2))
    assert done == [0]
    assert len(due) == 1, "the event loop is asked once"
    due.pop()()
    assert done == [0, 1, 2]
    assert sample(samples(metrics), "requests_total", route="/predict", method="POST", status="200") == 1
    metrics.later(lambda: done.append(3))
    assert len(due) == 1
    metrics.gather(None)
    assert done == [0, 1, 2, 3]
