"""Selections against a manifest, and what they cut out of a trace."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from service.errors import InvalidField
from service.model.bundle import Manifest
from service.model.engine import Trace
from service.model.equations import CellName, Direction, gate_names
from service.model.gates import STATISTICS, extract, select, summarise

UNITS, STEPS, BATCH = 6, 5, 3
LENGTHS = (5, 3, 4)
BOTH: tuple[Direction, ...] = ("forward", "backward")


def model(cell: CellName = "lstm", directions: tuple[Direction, ...] = BOTH, layers: int = 2) -> Manifest:
    parts = {"cell": cell, "directions": directions, "layers": layers, "hidden": UNITS}
    return Manifest.model_construct(None, **parts)  # type: ignore[arg-type]  # the parts that are asked for


def trace_of(manifest: Manifest) -> Trace:
    random = np.random.default_rng(0)
    shape = (STEPS, len(manifest.directions), BATCH, UNITS)
    emitted = {
        key: random.random(shape, dtype=np.float32)
        for key in product(range(manifest.layers), gate_names(manifest.cell))
    }
    return Trace(np.zeros((BATCH, 2), np.float32), np.array(LENGTHS, np.int32), manifest.directions, emitted)


def refused(manifest: Manifest | None = None, **asked: Any) -> dict[str, str]:
    with pytest.raises(InvalidField) as caught:
        select(manifest or model(), **asked)
    return {problem.pointer: problem.detail for problem in caught.value.problems}


@pytest.mark.parametrize("cell", get_args(CellName))
def test_nothing_asked_for_is_everything(cell: CellName) -> None:
    selection = select(model(cell))
    assert selection.gates == gate_names(cell)
    assert (selection.layers, selection.directions, list(selection.units)) == ((0, 1), BOTH, list(range(UNITS)))
    assert selection.numbers(STEPS) == STEPS * 2 * 2 * len(gate_names(cell)) * UNITS


def test_a_summary_is_four_numbers_a_token_and_gate_however_many_units() -> None:
    selection = select(model(), gates=["forget"], layers=[1], units=[0, 4], reduce="summary")
    assert selection.numbers(7) == 7 * 1 * 2 * 1 * 4
    assert select(model(), gates=["forget"], layers=[1], units=[0, 4]).numbers(7) == 7 * 1 * 2 * 1 * 2


@pytest.mark.parametrize(
    ("asked", "pointer", "detail"),
    [
        (
            {"gates": ["forget", "reset"]},
            "/gates/1",
            "lstm has no gate 'reset'; it has forget, input, output, candidate, cell, hidden.",
        ),
        ({"layers": [0, 2]}, "/layers/1", "layer 2 is out of range: the model has layers 0 to 1."),
        ({"layers": [-1]}, "/layers/0", "layer -1 is out of range: the model has layers 0 to 1."),
        ({"directions": ["up"]}, "/directions/0", "the model has no direction 'up'; it has forward, backward."),
        ({"units": [0, 1, 6]}, "/units/2", "unit 6 is out of range: the model has units 0 to 5."),
        ({"units": [3, -1]}, "/units/1", "unit -1 is out of range: the model has units 0 to 5."),
        ({"gates": ["cell", "cell"]}, "/gates/1", "'cell' is asked for twice."),
        ({"layers": [1, 0, 1]}, "/layers/2", "1 is asked for twice."),
        ({"directions": ["forward", "forward"]}, "/directions/1", "'forward' is asked for twice."),
        ({"units": [2, 2]}, "/units/1", "2 is asked for twice."),
        ({"units": []}, "/units", "the list is empty; leave it out for all: the model has units 0 to 5."),
        ({"directions": []}, "/directions", "the list is empty; leave it out for all: it has forward, backward."),
    ],
)
def test_a_wrong_selection_says_what_there_is(asked: dict[str, Any], pointer: str, detail: str) -> None:
    assert refused(**asked) == {pointer: detail}


def test_a_model_of_one_layer_and_direction_says_so() -> None:
    small = model("rnn", ("forward",), 1)
    assert refused(small, directions=["backward"], layers=[1], gates=["cell"]) == {
        "/gates/0": "rnn has no gate 'cell'; it has hidden.",
        "/layers/0": "layer 1 is out of range: the model has layer 0 alone.",
        "/directions/0": "the model has no direction 'backward'; it has forward.",
    }


def test_a_long_wrong_list_makes_a_short_answer() -> None:
    assert list(refused(units=list(range(100, 10_000)))) == ["/units/0"]


def test_layers_ascend_forward_comes_first_and_gates_keep_their_order() -> None:
    manifest = model()
    selection = select(manifest, gates=["hidden", "forget"], layers=[1, 0], directions=["backward", "forward"])
    found = extract(manifest, trace_of(manifest).gates(0), selection)
    assert [(part.layer, part.direction) for part in found] == [(0, d) for d in BOTH] + [(1, d) for d in BOTH]
    assert all(list(part.gates) == ["hidden", "forget"] for part in found)


@pytest.mark.parametrize("units", [None, [0], [2, 3, 4], [5, 0, 3], [4, 3]])
def test_a_cut_is_the_trace_row_for_row(units: list[int] | None) -> None:
    manifest = model("gru")
    trace = trace_of(manifest)
    for part in extract(manifest, trace.gates(1), select(manifest, units=units)):
        for gate, array in part.arrays().items():
            read = trace.emitted[part.layer, gate][:, BOTH.index(part.direction), 1]
            order = (2, 1, 0) if part.direction == "backward" else (0, 1, 2)
            expected = [[read[step, unit] for unit in units or range(UNITS)] for step in order]
            assert array.dtype == np.float32
            assert array.tolist() == np.array(expected).tolist()


def test_units_in_a_row_are_not_copied() -> None:
    manifest = model()
    trace = trace_of(manifest)
    for units in (None, [1, 2, 3]):
        for part in extract(manifest, trace.gates(2), select(manifest, ["cell"], [0], None, units)):
            assert np.shares_memory(part.arrays()["cell"], trace.emitted[0, "cell"])


def test_summaries_stand_under_flat_names_too() -> None:
    manifest = model("lstm", ("forward",), 1)
    trace = trace_of(manifest)
    [part] = extract(manifest, trace.gates(2), select(manifest, gates=["input"], units=[1, 5], reduce="summary"))
    assert part.gates["input"].keys() == set(STATISTICS)  # type: ignore[union-attr]  # summaries, as asked
    flat = part.arrays()
    assert list(flat) == ["input.mean", "input.std", "input.below", "input.above"]
    assert flat["input.mean"] == pytest.approx(trace.emitted[0, "input"][:4, 0, 2][:, [1, 5]].mean(axis=1))


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-30, 30, width=32))
)
def test_summaries_match_the_definitions(activations: NDArray[np.float32]) -> None:
    summary = summarise(activations)
    for token, row in enumerate(activations.tolist()):
        mean = sum(row) / len(row)
        expected = {
            "mean": mean,
            "std": (sum((value - mean) ** 2 for value in row) / len(row)) ** 0.5,
            "below": sum(value < 0.1 for value in row) / len(row),
            "above": sum(value > 0.9 for value in row) / len(row),
        }
        assert {name: float(values[token]) for name, values in summary.items()} == pytest.approx(expected, abs=2e-5)
    assert all(values.dtype == np.float32 and values.shape == (len(activations),) for values in summary.values())


def test_summaries_hold_at_the_thresholds_and_at_saturation() -> None:
    edge = np.array([[0.1, 0.9, 0, 1]], np.float32)
    summary = summarise(edge)
    assert (summary["below"].tolist(), summary["above"].tolist()) == ([0.25], [0.25])
    saturated = summarise(np.full((2, 4096), 0.99999, np.float32))
    assert saturated["std"].max() < 1e-7
    assert saturated["mean"] == pytest.approx(np.float32(0.99999))
