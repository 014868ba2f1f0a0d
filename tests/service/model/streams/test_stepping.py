"""A step at a time comes to what the graphs say of the whole: every cell, head, depth, precision and lower end."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.model.bundle import Bundle, Head
from service.model.engine import Engine
from service.model.streams.stepping import StepJob, Stepped, Stepper
from tests.bundles import KINDS, ORIGIN, Kind, Rows, architecture, network, random_rows, tiny_bundle, tokenizer
from training.export.bundle import export

LENGTHS = (1, 2, 33, 70)


def run(stepper: Stepper, rows: Rows, pieces: int) -> tuple[NDArray[np.float32], Stepped]:
    """Logits after each token of a text that comes so many tokens at a time."""
    state, logits = stepper.start, []
    for start in range(0, len(rows), pieces):
        (stepped,) = stepper.run([job(rows[start : start + pieces], state)])
        state = stepped.state
        logits += stepped.logits
    return np.array(logits), stepped


def job(rows: Rows, state: bytes, *, gates: bool = False) -> StepJob:
    return StepJob([row.tobytes() for row in rows], state, gates)


def numbers(stepper: Stepper, state: bytes) -> NDArray[np.float64]:
    """The statistics and the states in a state."""
    head = len(stepper._head.start) * 8
    return np.concatenate([np.frombuffer(state[:head]), np.frombuffer(state[head:], np.float32)])


def shown(stepped: Stepped, layer: int, gate: str) -> NDArray[np.float32]:
    """A gate of one layer [tokens, units]."""
    assert stepped.gates is not None
    return np.stack([layers[layer][gate][stepped.place] for layers in stepped.gates])


def compare(bundle: Bundle, rows: list[Rows], tolerance: float = 2e-6) -> None:
    engine = Engine(bundle)
    stepper = Stepper(engine.network)
    for each in rows:
        found, _ = run(stepper, each, 7)
        expected = engine.predict([each])[0]
        got = found if bundle.manifest.head == "tagger" else found[-1]
        assert got == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("head", ["last", "mean", "max", "attention", "tagger"])
@pytest.mark.parametrize("cell", KINDS)
def test_steps_come_to_the_answer_for_the_whole(tmp_path: Path, cell: Kind, head: Head) -> None:
    options: Any = {"task": "ner" if head == "tagger" else "sentiment", "cell": cell, "head": head}
    options |= {"bidirectional": False, "layers": 2}
    compare(tiny_bundle(tmp_path / "m", **options), random_rows(architecture(**options), LENGTHS))


@pytest.mark.parametrize("options", [{"characters": "cnn"}, {"characters": "lstm"}, {"word_bits": 8}, {"word_bits": 4}])
def test_the_lower_end_is_that_of_the_graphs(tmp_path: Path, options: Any) -> None:
    options = {"task": "ner", "bidirectional": False, **options}
    rows = random_rows(architecture(**options), LENGTHS)
    for each in rows if "characters" in options else []:
        for token in each:
            token[-12 + np.random.default_rng(len(each)).integers(1, 12) :] = 0  # no character behind the last
    compare(tiny_bundle(tmp_path / "m", **options), rows)


@pytest.mark.parametrize("head", ["mean", "last", "tagger"])
def test_whole_numbers_are_those_of_the_graph(tmp_path: Path, head: Head) -> None:
    options: Any = {
        "bidirectional": False,
        "layers": 2,
        "head": head,
        "task": "ner" if head == "tagger" else "sentiment",
    }
    shape = architecture(**options)
    bundle = export(network(shape), tokenizer(shape), ORIGIN, "CC0-1.0", tmp_path / "m", lambda _: [], precision="int8")
    compare(bundle, random_rows(shape, LENGTHS), 2e-5)


@pytest.mark.parametrize("cell", KINDS)
def test_many_streams_step_together_as_each_does_alone(tmp_path: Path, cell: Kind) -> None:
    bundle = tiny_bundle(tmp_path / "m", cell=cell, bidirectional=False, head="attention")
    stepper = Stepper(Engine(bundle).network)
    rows = random_rows(architecture(cell=cell), (1, 5, 16, 3, 16, 1))
    states = [
        run(stepper, random_rows(architecture(cell=cell), (number + 1,), number)[0], 4)[1].state for number in range(6)
    ]
    together = stepper.run([job(each, state) for each, state in zip(rows, states, strict=True)])
    for each, state, found in zip(rows, states, together, strict=True):
        (alone,) = stepper.run([job(each, state)])
        np.testing.assert_allclose(found.logits, alone.logits, atol=1e-6)
        np.testing.assert_allclose(numbers(stepper, found.state), numbers(stepper, alone.state), atol=1e-6)


@pytest.mark.parametrize("cell", KINDS)
def test_the_gates_are_those_of_a_trace(tmp_path: Path, cell: Kind) -> None:
    bundle = tiny_bundle(tmp_path / "m", cell=cell, bidirectional=False, layers=2)
    engine = Engine(bundle)
    stepper = Stepper(engine.network)
    (rows,) = random_rows(architecture(cell=cell), (20,))
    trace = engine.trace([rows])
    (stepped,) = stepper.run([job(rows, stepper.start, gates=True)])
    for layer, gate in trace.emitted:
        assert shown(stepped, layer, gate) == pytest.approx(trace.gate((layer, "forward", gate), 0), abs=2e-6)


def test_ten_thousand_tokens_pool_as_exactly_as_ten(tmp_path: Path) -> None:
    """Against sums in float64 of the same states."""
    for head in ("mean", "attention", "max"):
        bundle = tiny_bundle(tmp_path / head, bidirectional=False, head=head)
        stepper = Stepper(Engine(bundle).network)
        (rows,) = random_rows(architecture(), (10_000,))
        state, states = stepper.start, []
        for start in range(0, len(rows), 500):
            (stepped,) = stepper.run([job(rows[start : start + 500], state, gates=True)])
            state = stepped.state
            states.append(shown(stepped, 0, "hidden").astype(np.float64))
        hidden = np.concatenate(states)
        weights = np.asarray(Engine(bundle).network.arrays["head.weight"], np.float64)
        bias = np.asarray(Engine(bundle).network.arrays["head.bias"], np.float64)
        pooled = hidden.max(axis=0) if head == "max" else hidden.mean(axis=0)
        if head == "attention":
            products = hidden @ np.asarray(Engine(bundle).network.arrays["head.query"], np.float64)
            shares = np.exp(products - products.max())
            pooled = shares @ hidden / shares.sum()
        assert stepped.logits[-1] == pytest.approx(weights @ pooled + bias, abs=2e-6)


@pytest.mark.parametrize("head", ["last", "mean", "max", "attention", "tagger"])
def test_one_stream_steps_as_several_do(tmp_path: Path, head: Head) -> None:
    """One stream, single tokens of several, and pieces of several take different ways to the same numbers."""
    options: Any = {"head": head, "task": "ner" if head == "tagger" else "sentiment", "bidirectional": False}
    bundle = tiny_bundle(tmp_path / "m", layers=2, **options)
    stepper = Stepper(Engine(bundle).network)
    first, second = random_rows(architecture(**options), (12, 12))
    alone, _ = run(stepper, first, 1)
    pieces, last = run(stepper, first, 5)
    states, singles = [stepper.start] * 2, []
    for at in range(len(first)):
        found = stepper.run(
            [job(rows[at : at + 1], state) for rows, state in zip((second, first), states, strict=True)]
        )
        states = [each.state for each in found]
        singles += found[1].logits
    (_, together) = stepper.run([job(second[:7], stepper.start), job(first, stepper.start)])
    for logits in (pieces, singles, together.logits):
        np.testing.assert_allclose(logits, alone, atol=1e-6)
    np.testing.assert_allclose(numbers(stepper, states[1]), numbers(stepper, last.state), atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"layers": 2}, {"cell": "gru"}, {"cell": "minlstm"}, {"cell": "rnn"}])
def test_few_tokens_are_kept_and_change_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr("service.model.streams.stepping.MOST_KEPT", 3)
    bundle = tiny_bundle(tmp_path / "m", bidirectional=False, **options)
    engine = Engine(bundle)
    stepper = Stepper(engine.network)
    (rows,) = random_rows(architecture(**options), (40,))
    for _ in range(2):
        logits, _ = run(stepper, rows, 1)
        assert logits[-1] == pytest.approx(engine.predict([rows])[0], abs=2e-6)
        assert 0 < len(stepper._kept[0]) <= 3


def test_single_tokens_of_many_streams_have_their_own_gates(tmp_path: Path) -> None:
    stepper = Stepper(Engine(tiny_bundle(tmp_path / "m", bidirectional=False, layers=2)).network)
    (rows,) = random_rows(architecture(), (3,))
    jobs = [job(rows[at : at + 1], stepper.start, gates=at != 1) for at in range(3)]
    for at, found in enumerate(stepper.run(jobs)):
        (alone,) = stepper.run([jobs[at]])
        assert (found.gates is None) == (at == 1)
        for layer in range(2) if at != 1 else ():
            for name in alone.gates[0][layer] if alone.gates else ():
                np.testing.assert_allclose(shown(found, layer, name), shown(alone, layer, name), atol=1e-6)


def test_a_batch_with_more_tokens_than_are_kept_is_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.model.streams.stepping.MOST_KEPT", 3)
    engine = Engine(tiny_bundle(tmp_path / "m", bidirectional=False))
    stepper = Stepper(engine.network)
    for seed in range(3):
        texts = random_rows(architecture(), (9, 4, 12), seed)
        found = stepper.run([job(rows, stepper.start) for rows in texts])
        for stepped, expected in zip(found, engine.predict(texts), strict=True):
            assert stepped.logits[-1] == pytest.approx(expected, abs=2e-6)


def test_threads_that_meet_new_tokens_read_them_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.model.streams.stepping.MOST_KEPT", 5)
    engine = Engine(tiny_bundle(tmp_path / "m", bidirectional=False))
    stepper = Stepper(engine.network)
    texts = random_rows(architecture(), (30,) * 40)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda rows: run(stepper, rows, 3)[0][-1], texts))
    np.testing.assert_allclose(found, engine.predict(texts), atol=2e-6)


def test_tokens_that_another_thread_learns_meanwhile_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tiny_bundle(tmp_path / "m", bidirectional=False))
    stepper = Stepper(engine.network)
    (rows,) = random_rows(architecture(), (9,))
    free = stepper._learning

    @contextmanager
    def late() -> Iterator[None]:
        """The lock, which another thread has had before."""
        monkeypatch.setattr(stepper, "_learning", free)
        run(stepper, rows, 9)
        with free:
            yield

    monkeypatch.setattr(stepper, "_learning", late())
    assert run(stepper, rows, 9)[0][-1] == pytest.approx(engine.predict([rows])[0], abs=2e-6)
