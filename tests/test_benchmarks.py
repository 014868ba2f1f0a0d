"""The benchmarks run, compare like with like, and their page shows what they found. No test looks at a time."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks import __main__ as runner
from benchmarks import (
    builds,
    decoding,
    field,
    gates,
    generator,
    load,
    many,
    measure,
    overhead,
    padding,
    report,
    resources,
    sentences,
    serving,
    shadow,
    soak,
    start,
    step_graph,
    stream_counts,
    stream_lag,
    stream_scripts,
    stream_service,
    stream_soak,
    streams,
    threads,
)
from benchmarks.report import Conditions, Result
from service.model.bundle import load as load_bundle
from service.model.bundle import versions
from service.model.equations import CellName
from service.model.loading import Model, loader
from service.model.streams.stepping import StepJob, Stepper
from tests import test_docs
from tests.bundles import tiny_bundle
from tests.patience import PATIENCE, until
from tests.service.stub import Reply, stub

WHERE = Conditions("2026-01-01", "a processor", 2, 0.0, 1, {"python": "3.11"})


def test_a_row_holds_medians_and_extremes_of_its_rounds() -> None:
    row = measure.row("a case", "a unit", [(1.0, 2.0), (3.0, 2.0), (8.0, 4.0)])
    assert (row.subject, row.baseline, row.ratio, row.lowest, row.highest, row.rounds) == (3.0, 2.0, 1.5, 0.5, 2.0, 3)


def test_both_contestants_run_in_every_round() -> None:
    calls: list[str] = []
    pairs = measure.interleaved(lambda: calls.append("subject"), lambda: calls.append("baseline"), 3, 0.0)
    assert len(pairs) == 3
    assert calls.count("subject") == calls.count("baseline") == 2 + 3


@pytest.mark.parametrize("name", ["trace", "padding", "cells", "minimal", "bptt"])
def test_benchmark_runs(name: str) -> None:
    results = runner.run([name], quick=True)
    assert list(results) == [name]
    assert all(row.ratio > 0 for row in results[name].rows)


@pytest.mark.parametrize("cell", padding.KERNELS)
def test_padded_and_packed_layers_do_the_same_work(cell: CellName) -> None:
    torch.set_num_threads(1)
    task = padding.Task(cell, 8, padding.row_lengths(4, 1, 9))
    torch.testing.assert_close(task.padded(), task.packed(), rtol=1e-4, atol=1e-5)


def test_service_and_naive_application_answer_the_same(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "models" / "a-model")
    service = ("service", "serve", "--models", str(tmp_path / "models"), "--provider", "cpu")
    naive = ("benchmarks.naive", str(bundle.path))
    with (
        serving.server(*service) as ours,
        serving.server(*naive, ready=lambda port: serving.answers(port, "/docs")) as its,
    ):
        for text in load.TEXTS:
            one, other = (
                httpx.post(f"http://{load.HOST}:{port}/predict", json={"inputs": text}, timeout=PATIENCE).json()[
                    "predictions"
                ][0]
                for port in (ours.port, its.port)
            )
            assert other["label"] == one["label"]
            assert other["score"] == pytest.approx(one["score"], abs=1e-4)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = tiny_bundle(tmp_path / "a-model")
    (broken.path / "model.onnx").write_bytes(b"")
    with (
        pytest.raises(serving.ServingError, match=r"service did not start:[\s\S]*model\.onnx does not match"),
        serving.server("service", "serve", "--models", str(tmp_path), "--provider", "cpu"),
    ):
        pytest.fail("it started")


def runs(pid: int) -> bool:
    """True for a process that is there and not a zombie, which waits for its parent to notice its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_stopped_server_is_ended_with_its_workers_and_its_output_kept(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "models" / "a-model")
    program = ("service", "serve", "--models", str(tmp_path / "models"), "--workers", "2")
    log = tmp_path / "log"
    with serving.server(*program, ready=serving.workers_are_ready(2), log=log) as service:
        children = service.children
        assert len(children) >= 2
        assert service.cpu_seconds() > 0
        os.killpg(service.process.pid, signal.SIGSTOP)
    assert service.process.returncode == 0
    until(lambda: not any(runs(pid) for pid in children))  # a process that lost its parent ends when it is scheduled
    assert "ready" in log.read_text("utf-8")


def test_the_field_answers_alike_and_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everyone = field.contestants
    some = (field.NAIVE, field.OURS, field.INT8)
    monkeypatch.setattr(field, "contestants", lambda *given: [one for one in everyone(*given) if one.name in some])
    rows = list(field.measure(field.QUICK, tiny_bundle(tmp_path / "a-model")))
    assert [row.measure for row in rows] == ["requests/s", "requests/s", "ms, median", "ms, 99 %", "requests/s"]
    assert rows[0].ratio == 1.0, "the baseline against itself"
    assert all(row.subject > 0 for row in rows)


def test_many_texts_are_measured_over_http_in_process_and_from_the_command_line(tmp_path: Path) -> None:
    rows = list(many.measure(many.QUICK, tiny_bundle(tmp_path / "a-model")))
    assert [row.measure for row in rows] == ["texts/s"] * 3
    assert all(row.baseline > 0 for row in rows)
    # A file's rate is the difference between two runs of the command: of a short file it may come to anything.
    assert all(row.subject > 0 for row in rows[:2])


def test_texts_of_many_lengths_are_the_same_every_time() -> None:
    found = many.mixed(500)
    lengths = [len(text.split()) for text in found]
    assert found == many.mixed(500)
    assert min(lengths) >= 1
    assert max(lengths) == 200


def test_a_loop_over_torchs_cells_gives_the_gates_of_the_service(tmp_path: Path) -> None:
    rows = list(gates.measure(gates.QUICK, tiny_bundle(tmp_path / "a-model")))
    assert len(rows) == 2
    assert all(row.subject > 0 and row.baseline > 0 for row in rows)


def test_a_build_is_compared_with_an_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_bundle(tmp_path / "models" / "sentiment-bilstm")
    monkeypatch.delenv(start.VARIABLE, raising=False)
    with pytest.raises(serving.ServingError, match="must name the checkout"):
        next(builds.measure(builds.QUICK, tmp_path / "models"))
    monkeypatch.setenv(start.VARIABLE, str(serving.ROOT))
    rows = list(builds.measure(builds.QUICK, tmp_path / "models"))
    assert [row.measure for row in rows] == ["requests/s", "ms, median", "ms, 99 %"] * 2  # one short text; all gates
    assert all(row.subject > 0 and row.baseline > 0 for row in rows)


def test_pages_are_read_better_sentence_by_sentence() -> None:
    folder = serving.ROOT / "models" / "ner-bilstm"
    model = loader("cpu", 1, 4096)(load_bundle(folder / str(versions(folder)[-1])))
    file = serving.ROOT / "examples" / "ner" / "dev.conll"
    plain, wrapped = (list(sentences.pages(file, {"PER", "LOC", "ORG"}, 10, width)) for width in (None, 40))
    assert [page.text.replace("\n", " ") for page in plain] == [page.text.replace("\n", " ") for page in wrapped]
    assert all(len(line) <= 40 for page in wrapped for line in page.text.split("\n"))
    figures = sentences.measure(model, plain)
    assert figures["split"] == pytest.approx(figures["alone"], abs=1.0)
    assert figures["F1"] > 95


def test_streams_are_measured_in_process_and_over_websockets(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "models" / "a-model", bidirectional=False)
    rows = list(streams.measure(streams.QUICK, bundle))
    cpu, worker = "ms of CPU", "ms of CPU of the worker"
    kinds = [cpu, "tokens/CPU-s", cpu, worker, worker, cpu, cpu, cpu, cpu, worker, worker, "KiB", "KiB", "ms"]
    assert [row.measure for row in rows] == kinds
    assert all(row.baseline > 0 for row in rows)
    assert all(row.subject > 0 for row in rows if row.measure != "KiB")  # five streams may fit into freed memory
    assert all(row.baseline == streams.MOST_KIB for row in rows if row.measure == "KiB")


def test_a_step_by_a_graph_is_that_of_the_service(tmp_path: Path) -> None:
    for head in ("mean", "attention", "last"):
        bundle = tiny_bundle(tmp_path / head, bidirectional=False, head=head)
        network = loader("cpu", 1, 100)(bundle).engine.network
        assert step_graph.fits(network)
        stepper, run = Stepper(network), step_graph.run(network)
        states = [stepper.start] * 3
        for token in range(4):
            jobs = [StepJob([np.array([(7 * token + n) % 33], np.int32).tobytes()], s) for n, s in enumerate(states)]
            logits, after = run(jobs)
            expected = stepper.run(jobs)
            np.testing.assert_allclose(logits, [each.logits[0] for each in expected], atol=1e-6)
            states = [each.state for each in expected]
            assert [len(state) for state in after] == [len(state) for state in states]
    assert not step_graph.fits(loader("cpu", 1, 100)(tiny_bundle(tmp_path / "both")).engine.network)


def test_the_limit_of_idle_streams_refuses_one_more(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "models" / "a-model", bidirectional=False)
    found = stream_service.memory(bundle, 4)
    assert found.refusal == 503
    assert found.beside == found.streams - found.sockets


def test_streams_wait_for_the_end_of_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [False, False, True]
    monkeypatch.setattr(stream_service, "answers", lambda *_: seen.pop(0))
    asyncio.run(stream_service._closed(1))
    assert seen == []


def test_the_cpu_time_of_a_process_has_that_of_its_ended_threads() -> None:
    def work() -> None:
        while time.thread_time() < 0.05:
            pass

    before, thread = stream_service.seconds(os.getpid()), Thread(target=work)
    thread.start()
    thread.join()
    assert stream_service.seconds(os.getpid()) - before >= 0.05


def test_a_free_port_is_none_that_the_system_gives() -> None:
    file = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not file.exists():
        pytest.skip("this system has no such range")
    first = int(file.read_text("ascii").split()[0])
    for _ in range(20):
        with socket.create_server((load.HOST, port := serving.free_port())):
            assert port < first or first <= 10_000


def test_the_soak_of_streams_tells_wrong_answers_from_right_ones() -> None:
    right: dict[str, object] = {"label": "positive", "scores": {"positive": 0.75}, "entities": [{"start": 1}]}
    assert stream_soak.equal({**right, "scores": {"positive": 0.750001}}, right)
    wrongs: list[dict[str, object]] = [
        {"scores": {"positive": 0.7501}},
        {"label": "negative"},
        {"entities": []},
        {"entities": [{"start": 2}]},
    ]
    for wrong in wrongs:
        assert not stream_soak.equal({**right, **wrong}, right)
    assert stream_soak.texts() == stream_soak.texts()
    assert {model for model, _ in stream_soak.texts()} == set(stream_soak.MODELS)


NONE_OPEN = {"streams": 0.0, "stream_waiting_bytes": 0.0, "connections": 1.0}


def metrics(**counts: float) -> Reply:
    lines = [f"gatelight_{name} {count}" for name, count in {**NONE_OPEN, **counts}.items()]
    return 200, {}, "\n".join(["# TYPE gatelight_streams gauge", 'gatelight_streams_x{a="b"} 7.0', *lines, ""]).encode()


def test_counts_of_streams_are_waited_for_until_they_have_fallen_back() -> None:
    answers = [metrics(), metrics(streams=2, connections=3), (503, {}, b"busy"), metrics(connections=2), metrics()]
    with stub(lambda _, number: answers[min(number, len(answers)) - 1]) as server:
        before = stream_counts.counts(server.url)
        assert before == NONE_OPEN
        assert stream_counts.left(server.url, before, PATIENCE) == {}
        assert len(server.seen) == len(answers)  # it asked until they had
        assert stream_counts.left(server.url, {**before, "streams": 5.0}, PATIENCE) == {}  # fewer than before is fine


@pytest.mark.parametrize("name", stream_counts.COUNTS)
def test_counts_of_streams_that_stay_are_told(name: str) -> None:
    with stub(lambda *_: metrics(**{name: NONE_OPEN[name] + 3})) as server:
        over = stream_counts.left(server.url, NONE_OPEN, 0.0)
    assert over == {name: 3.0}
    assert stream_counts.told(over) == f"{name} +3"


def test_counts_that_are_not_there_are_an_error() -> None:
    with stub(lambda *_: (200, {}, b"up 1\n")) as server, pytest.raises(ValueError, match="no gatelight_streams"):
        stream_counts.counts(server.url)
    with stub(lambda *_: (503, {}, b"")) as server, pytest.raises(ValueError, match="gave no answer within 0 seconds"):
        stream_counts.left(server.url, NONE_OPEN, 0.0)


def soaked(**changes: Any) -> list[bool]:
    """The verdicts on a soak of streams in which all was well but for these changes."""
    run = stream_soak.Run("ws://host:1/stream", 1, 1.0, [], outcomes=Counter(right=9), memory=[141.0, 160.0, 153.0])
    assert run.base == "http://host:1"
    for name, value in changes.items():
        setattr(run, name, value)
    return list(stream_soak.verdicts(run).values())


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({}, [True, True, True, True]),
        ({"outcomes": Counter(right=9, wrong=1)}, [False, True, True, True]),
        ({"outcomes": Counter()}, [False, True, True, True]),
        ({"outcomes": Counter({"right": 9, "not replaced": 1})}, [True, False, True, True]),
        ({"left": {"connections": 1.0}}, [True, True, False, True]),
        ({"memory": [141.0, 156.0]}, [True, True, True, False]),
        ({"memory": [0.0, 0.0]}, [True, True, True, False]),  # no worker was there
    ],
)
def test_the_soak_of_streams_judges_answers_workers_counts_and_memory(
    changes: dict[str, Any], held: list[bool]
) -> None:
    assert soaked(**changes) == held


@pytest.fixture(scope="module")
def forward_taggers() -> list[Model]:
    return list(stream_lag.taggers(serving.ROOT / "models"))


@pytest.mark.parametrize(
    ("how", "split", "within"), [("sentence by sentence", True, 0), ("one sequence", False, 3)], ids=["split", "whole"]
)
def test_the_page_on_streams_says_how_far_settled_labels_lie_behind(
    forward_taggers: list[Model], how: str, split: bool, within: int
) -> None:
    """As one sequence the figures depend on where a model finds its entities."""
    page = (test_docs.DOCS / "how-to" / "streams.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| {how} \(.*\) \| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    assert f"`settle` {stream_lag.SETTLE}." in page
    text = stream_lag.running_text(stream_lag.FILE)
    assert {model.name for model in forward_taggers} == {"ner-lstm", "ner-gru"}
    for model in forward_taggers:
        assert f"`{model.name}`" in page
        found = stream_lag.lag(stream_lag.lags(model, text, split=split))
        assert f"{found.tokens:,} tokens of `examples/ner/dev.conll`" in page
        assert [found.median, found.p99, found.most] == pytest.approx(list(map(int, row)), abs=within)
        assert found.most < 2 * stream_lag.SETTLE


def test_labels_behind_a_stream_are_counted_in_tokens(forward_taggers: list[Model]) -> None:
    model = forward_taggers[0]
    assert stream_lag.lags(model, "It is good. It is.") == [3, 2, 1, 0, 2, 1, 0]
    (whole,) = {len(stream_lag.lags(model, "film " * 50, split=False, settle=settle)) for settle in (1, 7, 64)}
    assert whole == 50
    assert stream_lag.lag([0] * 98 + [7, 9]) == stream_lag.Lag(100, 0, 7, 9)


def test_the_soak_draws_each_curve(tmp_path: Path) -> None:
    soak.draw(tmp_path / "soak.svg", [0.0, 1.0], {"one curve": [1.0, 2.0], "another": [0.0, 0.0]})
    drawn = (tmp_path / "soak.svg").read_text("utf-8")
    assert drawn.startswith("<?xml")
    assert "<svg" in drawn


def test_decoding_is_measured_beside_a_prediction() -> None:
    (found,) = decoding.measure(decoding.QUICK)
    assert min(found.subject, found.baseline) > 0
    assert all(len(tokens) == decoding.TOKENS for tokens in decoding.sentences(40))


def test_memory_start_and_capacity_are_measured(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "models" / "a-model")
    rows = list(resources.measure(resources.QUICK, tmp_path / "models"))
    assert [row.measure for row in rows] == ["s", "MB", "MB", "requests/CPU-s"]
    assert all(row.subject > 0 for row in rows)


def test_a_full_shadow_of_other_weights_is_measured(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "a-model")
    rows = list(shadow.measure(shadow.QUICK, bundle))
    assert [row.measure for row in rows] == ["ms, median", "ms, 99th percentile"]
    assert all(row.ratio > 0 for row in rows)
    shipped = serving.shipped().path
    shutil.copytree(shipped, tmp_path / shipped.parent.name / "9")
    shadow._alter(tmp_path / shipped.parent.name / "9")
    altered = load_bundle(tmp_path / shipped.parent.name / "9")
    assert altered.digest != load_bundle(shipped).digest
    assert altered.manifest.files["weights.safetensors"] != load_bundle(shipped).manifest.files["weights.safetensors"]


def test_the_interval_of_a_median_is_that_of_the_sign_test() -> None:
    assert shadow.interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert shadow.interval(list(range(1, 7))) == (1, 6)  # covers 1 - 2 / 2**6
    assert shadow.interval(list(range(1, 26))) == (8, 18)  # the table of the binomial distribution
    assert shadow.interval(list(range(1, 32))) == (10, 22)


def test_a_turn_begins_when_nothing_waits_for_the_shadow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the shadow has not begun when it is asked first."""
    seen = ((0, 0), (0, 0), (1, 0), (5, 0), (5, 2), (5, 2), (9, 9))
    reports = [{"requests": done, "dropped": lost} for done, lost in seen]
    monkeypatch.setattr(shadow, "_STILL", 0.0)
    monkeypatch.setattr(shadow, "_report", lambda port, model: reports.pop(0))
    shadow._drain(1, "a-model")
    assert len(reports) == 1


@pytest.mark.parametrize(("baseline", "cases"), [(None, 1), (serving.ROOT, 3)], ids=["naive", "an earlier build"])
def test_starts_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, baseline: Path | None, cases: int
) -> None:
    tiny_bundle(tmp_path / "models" / start.ONE)
    (tmp_path / "models" / start.ONE / ".2.partial").mkdir()  # a copy that was never finished
    monkeypatch.delenv(start.VARIABLE, raising=False)
    if baseline is not None:
        monkeypatch.setenv(start.VARIABLE, str(baseline))
    rows = list(start.measure(start.QUICK, tmp_path / "models"))
    assert [row.measure for row in rows] == ["s", "CPU-s", "MB (PSS)", "MB (RSS)"] * cases
    assert all(min(row.subject, row.baseline) > 0 for row in rows)


def test_peers_without_their_packages_are_named_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tiny_bundle(tmp_path / "a-model")
    python = tmp_path / ".venv-there" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    monkeypatch.setattr(field, "PEERS", python)
    monkeypatch.setattr(field, "TRITON", tmp_path / ".venv-triton" / "bin" / "python")
    monkeypatch.setattr(field, "TORCHSERVE", python)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    names = [one.name for one in field.contestants(bundle, tmp_path / "models")]
    assert "LitServe, batching, 2 workers" in names
    assert not [name for name in names if "Triton" in name or "TorchServe" in name]
    assert capsys.readouterr().err.splitlines() == [
        "left out: Triton (PyTriton), batching: its packages are not there; make bench installs them into .venv-triton",
        "left out: TorchServe, batching, 2 workers: it needs Java, and there is none",
    ]
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/java")
    assert "TorchServe, batching, 2 workers" in [one.name for one in field.contestants(bundle, tmp_path / "models")]


def test_a_contestant_that_takes_a_pause_for_a_fault_is_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: sent.append((group, number)))
    load = generator.Load(1.0, 1.0, 1.0)
    monkeypatch.setattr(generator, "run", lambda *given: load)
    running = field.Field()
    everyone = field.all_contestants(tiny_bundle(tmp_path / "a-model"), tmp_path)
    for group, one in enumerate(everyone):
        running.add(one, 1, group)
        assert running.ask(one.name, [b"{}"], 1, 1.0) == load
    (triton,) = [group for group, one in enumerate(everyone) if one.name.startswith("Triton")]
    assert triton not in {group for group, _ in sent}
    others = len(everyone) - 1
    assert [number for _, number in sent] == [signal.SIGSTOP, signal.SIGCONT, signal.SIGSTOP] * others


def test_every_protocol_of_a_peer_asks_and_answers_in_its_own_form(tmp_path: Path) -> None:
    answers: dict[str, object] = {
        "/predict": {"predictions": [{"label": "positive"}]},
        "/predictions/sentiment": {"label": "positive", "score": 0.9},
        "/v2/models/sentiment/infer": {
            "outputs": [{"name": "score", "data": [0.9]}, {"name": "label", "data": ["positive"]}]
        },
    }
    everyone = [each for each in field.all_contestants(tiny_bundle(tmp_path / "a-model"), tmp_path) if each.answers]
    assert {each.route for each in everyone} == set(answers)
    for each in everyone:
        assert each.label(answers[each.route]) == "positive"
        assert "a film" in json.dumps(each.question("a film"))
    (listed,) = [each for each in everyone if each.name.startswith("BentoML")]
    assert listed.label([{"label": "positive"}]) == "positive"


def test_a_cell_without_an_int8_form_has_no_such_contestant(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "a-model", cell="gru")
    assert field.INT8 not in [one.name for one in field.contestants(bundle, tmp_path / "models")]


def test_without_wrk_our_own_generator_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "NAME", "benchmarks/load.py")
    naive = ("benchmarks.naive", str(tiny_bundle(tmp_path / "a-model").path))
    with serving.server(*naive, ready=lambda port: serving.answers(port, "/docs")) as server:
        found = generator.run(server.port, "/predict", [b'{"inputs": "a good film"}'], 2, 0.5)
        assert found.rate > 0
        assert 0 < found.median_ms <= found.p99_ms
        with pytest.raises(generator.LoadError, match="422"):
            generator.run(server.port, "/predict", [b"{}"], 1, 0.5)


def test_a_server_slower_than_the_turn_has_an_answer_of_each_connection() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            await asyncio.sleep(0.05)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    async def asked() -> dict[str, float]:
        async with await asyncio.start_server(answer, load.HOST, 0) as server:
            return await load.load(server.sockets[0].getsockname()[1], "/", ["{}"], 3, 0.001, "*/*")

    found = asyncio.run(asked())
    assert found["median_ms"] > 45
    assert 0 < found["rate"] < 3 / 0.045


def test_what_wrk_says_is_read() -> None:
    lines = ["    50%  396.13us", "    90%    2.00ms", "    99%    1.35s ", "Requests/sec:    142.12"]
    assert generator._of_wrk("\n".join(lines)) == generator.Load(142.12, 0.39613, 1350.0)
    refused = generator._of_wrk("\n".join([*lines, "132 requests in 2.07s", "Non-2xx or 3xx responses: 33"]))
    assert refused.rate == pytest.approx(142.12 * 0.75), "what was refused is not counted"
    with pytest.raises(generator.LoadError, match="nothing that can be read"):
        generator._of_wrk("unable to connect")


def test_texts_have_the_tokens_they_say() -> None:
    for tokens in (1, 19, 230):
        found = field.texts(tokens)
        assert {len(text.split()) for text in found} == {tokens}
        assert len(set(found)) > 10


def test_results_are_written_and_read_back(tmp_path: Path) -> None:
    result = Result("a subject", "a baseline", WHERE, (measure.row("a case", "a unit", [(1.0, 2.0)]),))
    file = tmp_path / "results.json"
    assert report.read(file) == {}
    report.write({"trace": result}, file)
    assert report.read(file) == {"trace": result}


def test_results_replace_those_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n", encoding="utf-8")
    result = Result("a subject", "a baseline", WHERE, (measure.row("a case", "a unit", [(1.0, 2.0)]),))
    for _ in range(2):
        report.publish({"trace": result}, page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("| a case | a unit | 1 | 2 | 0.50 | 0.50 – 0.50 |") == 1


@pytest.mark.parametrize("how", ["option", "variable"])
def test_results_go_into_another_folder_and_the_checkout_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    ours = (checkout / "results.json", checkout / "benchmarks.md")
    for name, source, copy in zip(("RESULTS", "PAGE"), (report.RESULTS, report.PAGE), ours, strict=True):
        shutil.copyfile(source, copy)
        monkeypatch.setattr(report, name, copy)
    before, known = [path.read_bytes() for path in ours], report.read()
    result = Result("a subject", "a baseline", WHERE, (measure.row("a case", "a unit", [(1.0, 2.0)]),))
    monkeypatch.setattr(runner, "run", lambda names, *, quick: dict.fromkeys(names, result))
    out = tmp_path / "new" / "folder"
    for name in ("padding", "trace"):
        words = [name, "--output", str(out)] if how == "option" else [name]
        done = CliRunner(env={"GATELIGHT_RESULTS": None if how == "option" else str(out)}).invoke(runner.main, words)
        assert done.exit_code == 0, done.output
    assert [path.read_bytes() for path in ours] == before
    expected = {name: result if name in ("padding", "trace") else each for name, each in known.items()}
    assert report.read(out / "results.json") == expected
    assert report.cut(out / "benchmarks.md")[1] == report.section(report.read(out / "results.json"))


def test_a_pages_benchmarks_write_nothing_into_the_checkout(tmp_path: Path) -> None:
    folder = Path(test_docs.environment(tmp_path)["GATELIGHT_RESULTS"])
    assert folder.is_relative_to(tmp_path)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["9", "http://127.0.0.1:8000/stream"], "without a path, .*; /stream is added. Here: http://127.0.0.1:8000$"),
        (["9", "http://127.0.0.1:8000/stream/"], "Here: http://127.0.0.1:8000$"),
        (["9", "http://127.0.0.1:8000?x=1"], "Here: http://127.0.0.1:8000$"),
        (["9", "ws://127.0.0.1:8000/stream"], "such as http://127.0.0.1:8000; /stream is added$"),
        (["9", "127.0.0.1:8000"], "such as http://127.0.0.1:8000; /stream is added$"),
        (["9", "http://[::1"], "^error: http://"),
        (["9", "http://127.0.0.1:123456"], "^error: http://127.0.0.1:123456: "),
    ],
)
def test_scripts_say_what_address_is_right(monkeypatch: pytest.MonkeyPatch, words: list[str], reason: str) -> None:
    monkeypatch.setattr("sys.argv", ["streams", "--scripts", *words])
    with pytest.raises(SystemExit, match=reason):
        streams.main()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["many", "http://127.0.0.1:8000"], "'many' is not a valid integer"),
        (["0", "http://127.0.0.1:8000"], "0 is not in the range x>=1"),
        (["1"], "Missing argument 'URL'"),
    ],
)
def test_scripts_say_what_count_is_right(words: list[str], reason: str) -> None:
    done = CliRunner().invoke(streams.main, ["--scripts", *words])
    assert done.exit_code == 2
    assert reason in done.output


@pytest.mark.parametrize("over", [{}, {"connections": 2.0}])
def test_scripts_compare_the_counts_after_them_with_those_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], over: dict[str, float]
) -> None:
    played: list[int] = []

    def left(url: str, before: dict[str, float]) -> dict[str, float]:
        assert (url, before, played) == (server.url, NONE_OPEN, [0, 1, 2])
        return over

    def play(url: str, seed: int) -> bool:
        played.append(seed)
        return seed > 0

    monkeypatch.setattr(streams, "play", play)
    monkeypatch.setattr(streams, "left", left)
    with stub(lambda *_: metrics()) as server:
        monkeypatch.setattr("sys.argv", ["streams", "--scripts", "3", server.url])
        if over:
            with pytest.raises(SystemExit, match=r"over what they were before: connections \+2"):
                streams.main()
        else:
            streams.main(standalone_mode=False)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "2 of 3 scripts came to an answer, and none hung"
    assert len(said) == (1 if over else 2)


def test_scripts_for_no_service_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:  # bound, so that no other program listens there
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setattr("sys.argv", ["streams", "--scripts", "1", address])
        with pytest.raises(SystemExit, match=f"^error: {address}: "):
            streams.main()


def test_a_trailing_slash_is_the_same_address() -> None:
    assert stream_scripts.service_url("http://127.0.0.1:8000/") == "http://127.0.0.1:8000"


def test_the_page_shows_the_results() -> None:
    _, between, _ = report.cut()
    assert between == report.section(report.read())


def test_a_requests_own_work_is_measured_and_counted(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "models" / "a-model")
    time, operations = overhead.measure(overhead.QUICK, bundle)
    assert min(time.subject, time.baseline) > 0
    assert operations.subject > operations.baseline > 100
    with overhead.Turns(bundle, serving.ROOT, 64) as turns:
        turns.take("64 connections")
        first, second = (turns.take("64 connections", count=True) for _ in range(2))
    # Operations are counted, not timed; a timer of the service may add a few to a turn of 64 requests.
    assert first[1] == pytest.approx(second[1], rel=0.005)


def test_a_step_is_measured_with_several_threads_beside_busy_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    begun: list[subprocess.Popen[bytes]] = []

    class Kept(subprocess.Popen[bytes]):
        def __init__(self, command: Sequence[str]) -> None:
            super().__init__(command)
            begun.append(self)

    monkeypatch.setattr(subprocess, "Popen", Kept)
    found = threads.measure((1, 2), 1, threads.Size(hidden=4, rows=1, tokens=3, rounds=1))
    assert list(found) == [1, 2]
    assert min(found.values()) > 0
    assert torch.get_num_threads() == before
    (busy,) = begun
    assert busy.returncode is not None, "it has ended"
    printed = CliRunner().invoke(threads.main, ["--busy", "0", "--hidden", "4", "--rounds", "1"]).stdout.splitlines()
    assert [line.split(":")[0] for line in printed] == ["1 thread beside 0 busy", "2 threads beside 0 busy"]
