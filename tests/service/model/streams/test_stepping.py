"""A step at a time comes to what the graphs say of the whole: every cell, head, depth, precision and lower end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import InvalidField
from service.model.bundle import Bundle, Head
from service.model.engine import Engine
from service.model.streams.stepping import Job, Stepped, Stepper, check
from tests.bundles import KINDS, ORIGIN, Kind, Rows, architecture, network, random_rows, tiny_bundle, tokenizer
from training.export.bundle import export

LENGTHS = (1, 2, 33, 70)


def run(stepper: Stepper, rows: Rows, pieces: int) -> tuple[NDArray[np.float32], Stepped]:
    """Logits after each token of a text that comes so many tokens at a time."""
    state, logits = stepper.start(), []
    for start in range(0, len(rows), pieces):
        (stepped,) = stepper.run([Job(rows[start : start + pieces], state)])
        state = stepped.state
        logits.append(stepped.logits)
    return np.concatenate(logits), stepped


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
    kept = [(state.cells.copy(), state.pooled.copy()) for state in states]
    together = stepper.run([Job(each, state) for each, state in zip(rows, states, strict=True)])
    for each, state, found, before in zip(rows, states, together, kept, strict=True):
        (alone,) = stepper.run([Job(each, state)])
        assert found.logits == pytest.approx(alone.logits, abs=1e-6)
        assert found.state.cells == pytest.approx(alone.state.cells, abs=1e-6)
        assert found.state.pooled == pytest.approx(alone.state.pooled, abs=1e-6)
        assert np.array_equal(state.cells, before[0])  # a state that was handed in stays as it is
        assert np.array_equal(state.pooled, before[1])


@pytest.mark.parametrize("cell", KINDS)
def test_the_gates_are_those_of_a_trace(tmp_path: Path, cell: Kind) -> None:
    bundle = tiny_bundle(tmp_path / "m", cell=cell, bidirectional=False, layers=2)
    engine = Engine(bundle)
    stepper = Stepper(engine.network)
    (rows,) = random_rows(architecture(cell=cell), (20,))
    trace = engine.trace([rows])
    (stepped,) = stepper.run([Job(rows, stepper.start(), gates=True)])
    assert stepped.gates is not None
    for layer, gate in trace.emitted:
        assert stepped.gates[layer][gate] == pytest.approx(trace.gate((layer, "forward", gate), 0), abs=2e-6)


def test_a_model_that_reads_backward_too_has_no_step(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match="reads backward"):
        check(tiny_bundle(tmp_path / "m").manifest)


def test_ten_thousand_tokens_pool_as_exactly_as_ten(tmp_path: Path) -> None:
    """Against sums in float64 of the same states."""
    for head in ("mean", "attention", "max"):
        bundle = tiny_bundle(tmp_path / head, bidirectional=False, head=head)
        stepper = Stepper(Engine(bundle).network)
        (rows,) = random_rows(architecture(), (10_000,))
        state, states = stepper.start(), []
        for start in range(0, len(rows), 500):
            (stepped,) = stepper.run([Job(rows[start : start + 500], state, gates=True)])
            state = stepped.state
            assert stepped.gates is not None
            states.append(stepped.gates[0]["hidden"].astype(np.float64))
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
    states, singles = [stepper.start()] * 2, []
    for at in range(len(first)):
        found = stepper.run(
            [Job(rows[at : at + 1], state) for rows, state in zip((second, first), states, strict=True)]
        )
        states = [each.state for each in found]
        singles.append(found[1].logits)
    (_, together) = stepper.run([Job(second[:7], stepper.start()), Job(first, stepper.start())])
    for logits in (pieces, np.concatenate(singles), together.logits):
        assert logits == pytest.approx(alone, abs=1e-6)
    assert states[1].pooled == pytest.approx(last.state.pooled, abs=1e-6)
    assert states[1].cells == pytest.approx(last.state.cells, abs=1e-6)
