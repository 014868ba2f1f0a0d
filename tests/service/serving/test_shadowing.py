"""Shadows, with small real models and without HTTP: what runs when, what is compared, and what reaches nobody."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from service.errors import ModelNotFound, NoShadow
from service.model.loading import Model
from service.serving import shadow_runs, shadowing
from service.serving.comparison import compare
from service.serving.exchange import Exchange
from service.serving.inference import decode, encode
from service.serving.runtime import Runtime
from service.settings import Settings
from tests.bundles import tiny_bundle
from tests.patience import PATIENCE, until
from tests.service.serving.test_inference import loaded

TEXTS = ["A great film .", "a dull movie", "it is not good , it's bad", "very fine"]
TAGGED = ["Ada Lovelace lived in London . It was good .", "a film of London"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed in (7, 8):
        tiny_bundle(folder / "one", seed=seed)
        tiny_bundle(folder / "tags", seed=seed, task="ner")
    tiny_bundle(folder / "one", labels=("positive", "negative"))  # version 1 with its labels the other way round
    tiny_bundle(folder / "alone")
    return folder


def running(
    models: Path, work: Callable[[Runtime], Awaitable[None]], by: Callable[..., Any] = asyncio.run, **settings: Any
) -> None:
    async def main() -> None:
        runtime = Runtime(Settings(models=models, _env_file=None, **settings))
        await runtime.start()
        await loaded(runtime)
        try:
            await work(runtime)
        finally:
            if runtime.after._log is not None:
                await asyncio.to_thread(runtime.after._log.close, PATIENCE)
            await runtime.close()

    by(main())


@contextmanager
def held(runtime: Runtime) -> Iterator[None]:
    """Let no shadow run meanwhile, as if the batcher were busy."""
    shadowing_ = runtime.after.shadowing
    busy = shadowing_._busy
    shadowing_._busy = lambda: True
    yield
    shadowing_._busy = busy


async def ask(runtime: Runtime, request_id: str, texts: list[Any], name: str = "one", **more: Any) -> Exchange:
    """As a route does: predict, and tell of the answer before and after it is out."""
    model = runtime.model(name, None, more.pop("version", None), request_id)
    encoded = encode(model, texts, True, str)
    logits = await runtime.inference.predict(model, encoded, deadline=asyncio.get_running_loop().time() + 60)
    predictions = decode(model, logits, encoded, tokens=False)
    runtime.after.feedback.remember(request_id, model, [len(each.text) for each in encoded], predictions)
    exchange = Exchange(request_id, "/predict", model, encoded, predictions, **more)
    runtime.after.note(exchange, runtime.versions_of(exchange.model))
    return exchange


async def settled(runtime: Runtime, name: str, count: int) -> dict[str, Any]:
    """The report, once so many requests are in it."""
    while True:
        report = runtime.after.shadowing.report(runtime.registry.find(name))
        if report["requests"] + report["dropped"] >= count:
            return report
        await asyncio.sleep(0.005)


async def replace(runtime: Runtime, folder: Path, content: str, version: str = "2") -> None:
    """Put the files of another version into the folder of a version, and look at it."""
    shutil.rmtree(folder / "one" / version)
    shutil.copytree(folder / "one" / content, folder / "one" / version)
    await runtime._reload()


def answer(model: Model, text: str) -> dict[str, Any]:
    encoded = encode(model, [text], True, str)
    (prediction,) = decode(model, list(model.engine.predict([encoded[0].rows])), encoded, tokens=False)
    return prediction


@pytest.mark.parametrize(("version", "agreement"), [("2", 1), ("3", 0)])
def test_a_report_is_what_the_two_versions_answer(models: Path, version: str, agreement: float) -> None:
    async def work(runtime: Runtime) -> None:
        for number, text in enumerate(TEXTS):
            await ask(runtime, f"id {number}", [text])
        report = await settled(runtime, "one", len(TEXTS))
        served, shadow = (runtime.model("one", None, each) for each in ("1", version))
        found = [compare(answer(served, text), answer(shadow, text)) for text in TEXTS]
        assert (report["served"], report["shadow"], report["share"]) == ("1", version, 1)
        assert (report["requests"], report["inputs"], report["dropped"]) == (4, 4, 0)
        assert report["agreement"] == sum(each.agree for each in found) / 4 == agreement
        changes = [change for each in found for change in each.changes]
        assert report["mean_score_change"] == pytest.approx(sum(changes) / 4, abs=1e-6)
        flips = [flip for each in found for flip in each.flips]
        assert report["flips"] == [
            {"from": one, "to": other, "count": flips.count((one, other))} for one, other in sorted(set(flips))
        ]
        differ = [number for number, each in enumerate(found) if not each.agree]
        assert sorted(each["request_id"] for each in report["disagreements"]) == [f"id {each}" for each in differ]
        assert all("text" not in each for each in report["disagreements"])
        text = runtime.metrics.text().decode()
        of = f'{{model="one",shadow="{version}",version="1"}}'
        assert f"gatelight_shadow_requests_total{of} 4.0" in text
        assert f"gatelight_shadow_agreement{of} {float(agreement)}" in text
        assert f"gatelight_shadow_mean_score_change{of} {report['mean_score_change']}" in text
        assert f"gatelight_shadow_latency_ratio{of} " in text
        assert report["latency_ratio"] > 0

    running(models, work, versions="one=1", shadow=f"one={version}", gate_sample=0)


def test_a_report_begins_anew_when_a_version_gets_other_content(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "one", tmp_path / "one")

    async def work(runtime: Runtime) -> None:
        await ask(runtime, "a", TEXTS)
        assert (await settled(runtime, "one", 1))["agreement"] == 1
        for content, agreement in (("3", 0), ("1", 1)):
            await replace(runtime, tmp_path, content)
            report = await settled(runtime, "one", 0)
            assert (report["requests"], report["inputs"], report["flips"], report["disagreements"]) == (0, 0, [], [])
            await ask(runtime, "b", TEXTS)
            report = await settled(runtime, "one", 1)
            assert (report["inputs"], report["agreement"]) == (len(TEXTS), agreement)
            assert len(report["disagreements"]) == (0 if agreement else len(TEXTS))

    running(tmp_path, work, versions="one=1", shadow="one=2", gate_sample=0)


@pytest.mark.parametrize(("meanwhile", "version"), [("waits", "2"), ("waits", "1"), ("runs", "2"), ("fails", "2")])
def test_a_run_of_the_content_before_is_not_in_the_report(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str, version: str
) -> None:
    monkeypatch.setattr("service.serving.afterwards.usable_cpus", lambda: 2)  # shadows run in the thread
    shutil.copytree(models / "one", tmp_path / "one")
    begun, go = threading.Event(), threading.Event()
    ran: list[str] = []

    def run(group: Any, *of: Any) -> Any:
        ran.extend(each.request_id for each in group)
        begun.set()
        assert go.wait(PATIENCE)
        return 1 / 0 if meanwhile == "fails" and ran == ["a"] else shadow_runs.run(group, *of)

    monkeypatch.setattr(shadowing, "run", run)

    async def work(runtime: Runtime) -> None:
        with held(runtime) if meanwhile == "waits" else nullcontext():
            await ask(runtime, "a", TEXTS)
            assert meanwhile == "waits" or await asyncio.to_thread(begun.wait, PATIENCE)
            await replace(runtime, tmp_path, "3", version)
        go.set()
        await ask(runtime, "b", TEXTS)
        report = await settled(runtime, "one", 1)
        assert (report["requests"], report["dropped"], report["inputs"]) == (1, 0, len(TEXTS))
        assert report["agreement"] == 0
        assert ran == (["b"] if meanwhile == "waits" else ["a", "b"])

    running(tmp_path, work, versions="one=1", shadow="one=2", gate_sample=0)


def test_a_comparison_that_is_under_way_is_not_counted_for_other_content(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(runtime: Runtime) -> None:
        loop = asyncio.get_running_loop()

        def comparing(served: Any, shadow: Any) -> Any:
            if not runtime.metrics.totals().get(("shadow_inputs_total", "one", "1", "2")):  # the first of them
                loop.call_soon(runtime.metrics.judge, ("one", "2"), "f" * 64)
            return compare(served, shadow)

        monkeypatch.setattr(shadowing, "compare", comparing)
        await ask(runtime, "a", [SHORT] * (2 * shadowing.GROUP_ROWS + 1))
        worker = runtime.after.shadowing._worker
        assert worker is not None
        await worker
        report = runtime.after.shadowing.report(runtime.registry.find("one"))
        assert (report["requests"], report["inputs"], report["mean_score_change"]) == (0, 0, None)

    running(models, work, versions="one=1", shadow="one=2", gate_sample=0)


def test_feedback_and_gates_begin_anew_when_a_version_gets_other_content(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "one", tmp_path / "one")

    async def work(runtime: Runtime) -> None:
        take = runtime.after.feedback.take

        def judged(version: str) -> set[str]:
            """The beginnings of the families that have counted something of a version."""
            totals = runtime.metrics.totals().items()
            found = {key[0] for key, cells in totals if key[1:3] == ("one", version) and any(cells)}
            return {begin for begin in ("gate", "feedback") if any(each.startswith(f"{begin}_") for each in found)}

        async def judge(version: str, label: str) -> str:
            request_id = f"{version} {label}"
            await ask(runtime, request_id, TEXTS, version=version)
            while runtime.sampler._busy or "gate" not in judged(version):  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.005)
            return take(request_id, 0, label, None).outcome

        for version in "12":
            assert {await judge(version, label) for label in ("positive", "negative")} == {"right", "wrong"}
            assert judged(version) == {"gate", "feedback"}
        await replace(runtime, tmp_path, "3")
        assert (judged("1"), judged("2")) == ({"gate", "feedback"}, set())
        assert [take("2 positive", number, "positive", None).outcome for number in (0, 1)] == ["unscored"] * 2
        assert take("1 positive", 1, "positive", None).outcome in ("right", "wrong"), "of the other version"
        assert judged("2") == set()
        assert {await judge("2", label) for label in ("positive", "negative")} == {"right", "wrong"}
        assert judged("2") == {"gate", "feedback"}
        counted = runtime.metrics.totals()
        assert [counted["feedback_total", "one", "2", outcome] for outcome in ("right", "wrong")] == [[1.0], [1.0]]

    running(tmp_path, work, versions="one=1+2", gate_sample=1)


def test_entities_are_compared_sentence_by_sentence(models: Path) -> None:
    async def work(runtime: Runtime) -> None:
        exchange = await ask(runtime, "a", TAGGED, "tags")
        report = await settled(runtime, "tags", 1)
        shadow = runtime.model("tags", None, "2")
        again = encode(shadow, TAGGED, True, str)
        deadline = asyncio.get_running_loop().time() + 60
        logits = await runtime.inference.predict(shadow, again, deadline=deadline)
        found = [
            compare(one, other)
            for one, other in zip(exchange.predictions, decode(shadow, logits, again, tokens=False), strict=True)
        ]
        assert (report["requests"], report["inputs"]) == (1, 2)
        assert report["agreement"] == sum(each.agree for each in found) / 2
        assert sum(each["count"] for each in report["flips"]) == sum(len(each.flips) for each in found)

    running(models, work, shadow="tags=2")


@pytest.mark.parametrize("settings", [{"log_text": True}, {"payload_text": True}])
def test_texts_are_told_only_where_they_are_logged(models: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    if "payload_text" in settings:
        settings = {**settings, "payload_log": tmp_path / "log"}

    async def work(runtime: Runtime) -> None:
        await ask(runtime, "a", TEXTS)
        report = await settled(runtime, "one", 1)
        assert {each["text"] for each in report["disagreements"]} <= set(TEXTS)
        assert report["disagreements"]
        assert all(TEXTS[each["input"]] == each["text"] for each in report["disagreements"])

    running(models, work, versions="one=1", shadow="one=3", **settings)


def test_what_a_hook_takes_out_of_the_log_is_compared_and_told_without_texts(models: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work(runtime: Runtime) -> None:
        with held(runtime):  # the shadow begins when the hook is done
            exchanges = [await ask(runtime, each, TEXTS) for each in "ab"]
            await asyncio.to_thread(until, lambda: log.exists() and log.read_bytes().count(b"\n") == len(exchanges))
        report = await settled(runtime, "one", 2)
        assert (report["inputs"], report["dropped"]) == (8, 0)
        assert all(each["label"] for exchange in exchanges for each in exchange.predictions)
        assert report["disagreements"]
        assert all("text" not in each for each in report["disagreements"]), "the hook has not seen them"

    settings: dict[str, Any] = {"payload_log": log, "payload_text": True}
    settings["payload_redact"] = "tests.service.observability.test_payload_log:clear"
    running(models, work, versions="one=1", shadow="one=3", **settings)


def test_a_comparison_that_fails_is_counted_and_the_next_is_made(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(runtime: Runtime) -> None:
        monkeypatch.setattr(shadowing, "compare", lambda served, shadow: 1 / 0)
        await ask(runtime, "a", TEXTS)
        assert (await settled(runtime, "one", 1))["dropped"] == 1
        monkeypatch.undo()
        await ask(runtime, "b", TEXTS)
        assert (await settled(runtime, "one", 2))["inputs"] == 4

    running(models, work, versions="one=1", shadow="one=2")


def test_only_what_the_stable_version_answers_is_run_again(models: Path) -> None:
    async def work(runtime: Runtime) -> None:
        await ask(runtime, "a", TEXTS, version="2")
        await ask(runtime, "b", TEXTS, "alone")
        await ask(runtime, "c", TEXTS)
        report = await settled(runtime, "one", 1)
        assert report["requests"] == 1
        with pytest.raises(NoShadow, match="alone has no shadow"):
            runtime.after.shadowing.report(runtime.registry.find("alone"))
        with pytest.raises(ModelNotFound):
            runtime.after.shadowing.report(runtime.registry.find("none"))

    running(models, work, versions="one=1", shadow="one=2")


def test_nothing_runs_while_the_batcher_is_busy_and_what_is_too_much_is_dropped(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadowing, "MAX_WAITING", 2)

    async def work(runtime: Runtime) -> None:
        runtime.batcher._running += 1  # as while a batch is in a thread
        for number in range(5):
            await ask(runtime, str(number), TEXTS)
        for _ in range(5):
            await asyncio.sleep(shadowing.IDLE_SECONDS)
        report = runtime.after.shadowing.report(runtime.registry.find("one"))
        assert (report["requests"], report["dropped"]) == (0, 3)
        runtime.batcher._running -= 1
        report = await settled(runtime, "one", 5)
        assert (report["requests"], report["dropped"], report["inputs"]) == (2, 3, 8)
        assert 'why="busy"} 3.0' in runtime.metrics.text().decode()

    running(models, work, versions="one=1", shadow="one=2", threads=2)  # one is busy


class Ran:
    """The groups that ran: the number of their requests, and True for those in the event loop's thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[int] = []
        self.here: list[bool] = []
        run, loop = shadow_runs.run, threading.current_thread()

        def noting(group: Any, *more: Any) -> Any:
            self.requests.append(len(group))
            self.here.append(threading.current_thread() is loop)
            return run(group, *more)

        monkeypatch.setattr(shadowing, "run", noting)


def test_requests_run_again_in_groups(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.serving.afterwards.usable_cpus", lambda: 2)

    async def work(runtime: Runtime) -> None:
        groups = Ran(monkeypatch).requests
        with held(runtime):
            for number in range(5):
                await ask(runtime, str(number), [TEXTS[0]])
        await settled(runtime, "one", 5)
        assert groups == [5]
        monkeypatch.setattr(shadowing, "GATHER_SECONDS", 1e6)
        exchange = await ask(runtime, "a", [TEXTS[0]])
        for _ in range(shadowing.GROUP_ROWS - 1):  # a whole group waits for nobody
            runtime.after.note(exchange, runtime.versions_of(exchange.model))
        assert (await settled(runtime, "one", 5 + shadowing.GROUP_ROWS))["dropped"] == 0
        assert groups == [5, shadowing.GROUP_ROWS]

    running(models, work, versions="one=1", shadow="one=2")


def test_without_a_spare_cpu_requests_run_one_by_one_in_the_event_loop(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.serving.afterwards.usable_cpus", lambda: 1)
    monkeypatch.setattr(shadowing, "LONGEST_HERE", 1e6)
    monkeypatch.setattr(shadowing, "GATHER_SECONDS", 1e6)  # nothing is gathered

    async def work(runtime: Runtime) -> None:
        ran = Ran(monkeypatch)
        turns: list[int] = []

        async def watch() -> None:
            while True:
                turns.append(len(ran.requests))
                await asyncio.sleep(0)

        exchange = await ask(runtime, "a", [TEXTS[0]])
        for _ in range(4):
            runtime.after.note(exchange, runtime.versions_of(exchange.model))
        watcher = asyncio.create_task(watch())
        assert (await settled(runtime, "one", 5))["inputs"] == 5
        watcher.cancel()
        assert ran.requests == [1] * 5
        assert all(ran.here)
        for number in range(1, 5):
            assert turns.count(number) >= shadowing.IDLE_TURNS, "the event loop turns between two requests"

    running(models, work, versions="one=1", shadow="one=2", gate_sample=0)


@pytest.mark.parametrize("by", ["the reader itself", "a task"])
def test_the_sockets_are_read_before_a_shadow_begins(models: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """A request that has arrived is not seen by the batcher until the event loop has read it."""
    monkeypatch.setattr("service.serving.afterwards.usable_cpus", lambda: 1)
    monkeypatch.setattr(shadowing, "LONGEST_HERE", 1e6)

    async def work(runtime: Runtime) -> None:
        ran, loop = Ran(monkeypatch), asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        tasks: list[Any] = []

        async def submit() -> None:
            runtime.batcher._running += 1

        def read() -> None:
            theirs.recv(1)
            if by == "a task":
                tasks.append(loop.create_task(submit()))
            else:
                runtime.batcher._running += 1

        with ours, theirs:
            loop.add_reader(theirs, read)
            exchange = await ask(runtime, "a", [TEXTS[0]])
            await settled(runtime, "one", 1)
            loop.call_soon(ours.send, b"1")  # in the turn in which the shadow looks for idle time, just before
            runtime.after.note(exchange, runtime.versions_of(exchange.model))
            for _ in range(3):
                await asyncio.sleep(shadowing.IDLE_SECONDS)
            found = runtime.batcher.busy, list(ran.requests)
            runtime.batcher._running -= 1
            loop.remove_reader(theirs)
            await settled(runtime, "one", 2)
        assert found == (True, [1])
        assert ran.requests == [1, 1]

    running(models, work, by=uvloop.run, versions="one=1", shadow="one=2", gate_sample=0)


SHORT, LONG = "a film", " ".join(["film"] * 20)


@pytest.mark.parametrize(
    ("name", "texts", "tokens", "here"),
    [
        ("one", TEXTS, 0, False),
        ("one", [LONG], 20, True),
        ("one", [LONG], 19, False),
        ("one", [SHORT, SHORT, LONG, SHORT], 79, False),  # one batch of four rows: 80 tokens with padding, 26 without
        ("one", [SHORT, SHORT, LONG, SHORT], 80, True),
        ("one", [SHORT, SHORT, LONG, SHORT, SHORT], 28, True),  # the longest has a batch of its own
        ("tags", [f"{SHORT} . {LONG.title()} . {SHORT} ."], 40, False),  # sentences are rows: 63 with padding
        ("one", [SHORT] * shadowing.GROUP_ROWS, 1e6, True),
        ("one", [SHORT] * (shadowing.GROUP_ROWS + 1), 1e6, False),
        ("tags", ["It was good . " * (shadowing.GROUP_ROWS + 1)], 1e6, False),
    ],
)
def test_a_long_request_leaves_the_event_loop_to_the_others(
    models: Path, monkeypatch: pytest.MonkeyPatch, name: str, texts: list[str], tokens: float, here: bool
) -> None:
    monkeypatch.setattr("service.serving.afterwards.usable_cpus", lambda: 1)

    async def work(runtime: Runtime) -> None:
        seconds = runtime.model(name, None, "2").seconds_per_token
        monkeypatch.setattr(
            shadowing, "LONGEST_HERE", 2 * (tokens + 0.5) * seconds
        )  # the first run is of both versions
        ran = Ran(monkeypatch)
        await ask(runtime, "a", texts, name)
        assert (await settled(runtime, name, 1))["inputs"] == len(texts)
        assert ran.here == [here]

    running(models, work, versions="one=1,tags=1", shadow="one=2,tags=2")


def test_requests_come_between_the_comparisons_of_many_texts(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def counting(served: Any, shadow: Any) -> Any:
        compared[-1] += 1
        return compare(served, shadow)

    async def watch() -> None:
        while True:
            compared.append(0)
            await asyncio.sleep(0)

    async def work(runtime: Runtime) -> None:
        watcher = asyncio.create_task(watch())
        await asyncio.sleep(0)
        monkeypatch.setattr(shadowing, "compare", counting)
        monkeypatch.setattr(shadowing, "yielding", nullcontext)  # the watcher leaves its thread no idle CPU
        await ask(runtime, "a", [SHORT] * 50)
        assert (await settled(runtime, "one", 1))["inputs"] == 50
        watcher.cancel()
        assert max(compared) == shadowing.GROUP_ROWS

    running(models, work, versions="one=1", shadow="one=2", gate_sample=0)


@pytest.mark.parametrize(("cpus", "here"), [(1, True), (2, False)])
def test_a_shadow_has_a_thread_where_the_workers_leave_a_cpu(
    models: Path, monkeypatch: pytest.MonkeyPatch, cpus: int, here: bool
) -> None:
    monkeypatch.setattr("service.serving.afterwards.usable_cpus", lambda: cpus)
    monkeypatch.setattr(shadowing, "LONGEST_HERE", 1e6)

    async def work(runtime: Runtime) -> None:
        ran = Ran(monkeypatch)
        await ask(runtime, "a", TEXTS)
        await settled(runtime, "one", 1)
        assert ran.here == [here]

    running(models, work, versions="one=1", shadow="one=2")


def test_batches_of_a_group_are_small_and_of_similar_length() -> None:
    lengths = [5, 1, 4, 2, 3, 2100, 1900, 1800]
    batches = list(shadow_runs.small_batches(lengths))
    assert batches == [[1, 3, 4, 2], [0, 7], [6], [5]]
    assert max(map(len, batches)) == shadow_runs.BATCH_ROWS
    assert shadow_runs.tokens_to_run(lengths) == 4 * 4 + 2 * 1800 + 1900 + 2100


def test_a_shadow_that_fails_is_counted_and_nobody_notices(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(runtime: Runtime) -> None:
        shadow = runtime.model("one", None, "2")
        monkeypatch.setattr(shadow.engine, "predict", lambda rows: 1 / 0)
        await ask(runtime, "a", TEXTS)
        assert (await settled(runtime, "one", 1))["dropped"] == 1
        monkeypatch.undo()
        await ask(runtime, "b", TEXTS)
        assert (await settled(runtime, "one", 2))["requests"] == 1

    running(models, work, versions="one=1", shadow="one=2")


@pytest.mark.parametrize("outcome", ["fails", "cannot be read"])
def test_requests_come_between_two_groups_without_a_result(
    models: Path, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    monkeypatch.setattr("service.serving.afterwards.usable_cpus", lambda: 1)
    monkeypatch.setattr(shadowing, "LONGEST_HERE", 1e6)
    ran: list[int] = []

    def run(group: Any, *_: Any) -> Any:
        ran.append(len(group))
        return shadow_runs.ShadowResults([None], []) if outcome == "cannot be read" else 1 / 0

    async def work(runtime: Runtime) -> None:
        monkeypatch.setattr(shadowing, "run", run)
        with held(runtime):  # the first request waits for the others
            exchange = await ask(runtime, "a", [TEXTS[0]])
            for _ in range(3):
                runtime.after.note(exchange, runtime.versions_of(exchange.model))
        turns: list[int] = []

        async def watch() -> None:
            while True:
                turns.append(len(ran))
                await asyncio.sleep(0)

        watcher = asyncio.create_task(watch())
        assert (await settled(runtime, "one", 4))["dropped"] == 4
        watcher.cancel()
        assert ran == [1] * 4
        assert {1, 2, 3} <= set(turns)

    running(models, work, versions="one=1", shadow="one=2")


def test_a_shadow_with_a_tokenizer_of_its_own_reads_the_text_anew(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(runtime: Runtime) -> None:
        served = runtime.model("one", None, "1")
        read: list[Any] = []
        encode_ = type(served).encode

        def noting(model: Model, value: Any, **more: Any) -> Any:
            read.append((model.version, value))
            return encode_(model, value, **more)

        object.__setattr__(served, "tokenizer", type(served.tokenizer).read)  # any other object
        exchange = Exchange("a", "/predict", served, *await given(runtime), tokenised=[False, True])
        monkeypatch.setattr(type(served), "encode", noting)
        runtime.after.note(exchange, runtime.versions_of(exchange.model))
        assert (await settled(runtime, "one", 1))["inputs"] == 2
        assert read == [("2", "a good film"), ("2", ["a", "good", "film"])]

    async def given(runtime: Runtime) -> tuple[Any, Any]:
        shadow = runtime.model("one", None, "2")
        encoded = encode(shadow, ["a good film", ["a", "good", "film"]], False, str)
        return encoded, [answer(shadow, "a good film")] * 2

    running(models, work, versions="one=1", shadow="one=2")


def test_the_shadow_s_gates_are_sampled(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.model.gate_drift.ENOUGH_TEXTS", 1)

    async def work(runtime: Runtime) -> None:
        with held(runtime):
            await ask(runtime, "a", TEXTS)
            while runtime.sampler._busy:  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.005)
        await settled(runtime, "one", 1)
        while runtime.after.shadowing.report(runtime.registry.find("one"))["gate_drift"] is None:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.005)
        assert runtime.after.shadowing.report(runtime.registry.find("one"))["gate_drift"] > 0
        assert "gatelight_shadow_gate_drift{" in runtime.metrics.text().decode()

    running(models, work, versions="one=1", shadow="one=2", gate_sample=1)


# The payload log


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_requests_and_answers_are_logged_and_feedback_beside_them(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    exchanges: list[Exchange] = []

    async def work(runtime: Runtime) -> None:
        exchanges.append(await ask(runtime, "a", ["a good film", ["a", "film"]], tokenised=[False, True]))
        exchanges.append(await ask(runtime, "b", TAGGED, "tags", truncate=True))
        runtime.after.take_feedback("f", "a", 1, "positive", None)
        runtime.after.take_feedback("g", "b", 0, None, [(0, 12, "PER")])

    running(models, work, payload_log=path, payload_text=True, versions="one=1", canary="one=2:1")
    for line in [*path.read_bytes().splitlines(), *(tmp_path / "log.feedback.jsonl").read_bytes().splitlines()]:
        assert JSONFormat().read(CloudEvent, line).get_specversion() == "1.0"
    first, second = lines(path)
    assert (first["id"], first["source"], first["endpoint"], first["modelversion"]) == (
        "a",
        "/models/one",
        "canary",
        "2",
    )
    assert first["data"]["request"]["inputs"] == ["a good film", ["a", "film"]]
    assert first["data"]["answer"]["predictions"] == exchanges[0].predictions
    assert (second["endpoint"], second["modelversion"], second["data"]["request"]["truncate"]) == ("default", "2", True)
    assert second["data"]["spans"][1] == [[0, 1], [2, 6], [7, 9], [10, 16]]
    label, entities = lines(tmp_path / "log.feedback.jsonl")
    assert label["data"].items() >= {"request_id": "a", "input": 1, "label": "positive"}.items()
    assert label["modelversion"] == "2"
    assert entities["data"]["entities"] == [{"start": 0, "end": 12, "label": "PER"}]


def test_no_word_of_a_text_is_logged_unasked(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "log"

    async def work(runtime: Runtime) -> None:
        await ask(runtime, "first", TEXTS)
        await ask(runtime, "second", TAGGED, "tags")

    running(models, work, payload_log=path)
    content = path.read_text()
    for text in (*TEXTS, *TAGGED):
        for word in filter(str.isalpha, text.split()):
            assert f'"{word}"' not in content
            assert f"{word} " not in content
    assert lines(path)[0]["data"]["request"]["inputs"][0] == {"characters": 14, "tokens": 4}


def test_a_share_is_logged_and_the_same_ids_each_time(models: Path, tmp_path: Path) -> None:
    async def work(runtime: Runtime) -> None:
        for number in range(60):
            await ask(runtime, f"id {number}", ["a"])

    found = []
    for name in ("one", "other"):
        running(models, work, payload_log=tmp_path / name, payload_sample=0.5)
        found.append({each["id"] for each in lines(tmp_path / name)})
    assert found[0] == found[1]
    assert 15 < len(found[0]) < 45


def test_an_answer_is_followed_where_a_shadow_or_the_payload_log_wants_it(models: Path, tmp_path: Path) -> None:
    found: list[bool] = []

    async def work(runtime: Runtime) -> None:
        found.append(runtime.after.follows(runtime.versions_of(runtime.model("one", None))))

    plain: dict[str, Any] = {"versions": "one=1"}
    running(models, work, **plain)
    running(models, work, **plain, shadow="one=2")
    running(models, work, **plain, payload_log=tmp_path / "log.jsonl")
    assert found == [False, True, True]
