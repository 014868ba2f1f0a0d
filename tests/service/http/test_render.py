"""Answers as bytes, from arrays that need no model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load

from service.http.number_table import LARGEST, rows_as_json, tables_as_json
from service.http.render import NUMBERS_AT_ONCE, PIECE, TraceAnswer, traces_as_json, traces_as_safetensors
from service.model.gates import LayerGates

HEAD: dict[str, object] = {"model": "m"}


def answer(*arrays: NDArray[np.float32]) -> TraceAnswer:
    layers = [LayerGates(number, "forward", {"cell": array}) for number, array in enumerate(arrays)]
    return TraceAnswer({"tokens": []}, layers, {"contributions": None})


def shown(array: NDArray[np.float32], decimals: int | None) -> list[list[float]]:
    body = json.loads(b"".join(traces_as_json(HEAD, [answer(array)], decimals)))
    rows: list[list[float]] = body["traces"][0]["layers"][0]["gates"]["cell"]
    return rows


def test_numbers_are_rounded_and_none_is_minus_zero() -> None:
    array = np.array([[0.91, -0.00001, 1 / 3], [-9.99996, 9.9999, -0.5]], np.float32)
    body = b"".join(traces_as_json(HEAD, [answer(array[:1])], 4))
    assert b"[[ 0.9100, 0.0000, 0.3333]]" in body.replace(b"[       ", b"[")
    assert b"-0.0," not in body
    assert shown(array, 4) == [[0.91, 0.0, 0.3333], [-10.0, 9.9999, -0.5]], "-10 is printed without the table"
    assert shown(array[:1], None) == [[0.91, -1e-05, 0.33333334]]


@pytest.mark.parametrize("decimals", [0, 1, 2, 3, 4, 17])
@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0])
@pytest.mark.parametrize("shape", [(50, 7), (1, 1), (NUMBERS_AT_ONCE // 64 + 3, 64)])
def test_rounding_is_numpys(decimals: int, scale: float, shape: tuple[int, int]) -> None:
    array = np.random.default_rng(0).normal(0, scale, shape).astype(np.float32)
    array[0, 0] = 0.5  # half to even
    assert np.array_equal(np.array(shown(array, decimals)), np.round(array.astype(np.float64), decimals))


@given(st.lists(st.floats(-12, 12, width=32), min_size=1, max_size=20), st.integers(1, 4))
def test_a_row_of_the_table_is_what_a_serialiser_makes_of_it(row: list[float], decimals: int) -> None:
    block = np.array([row], np.float32)
    rounded = np.round(block.astype(np.float64), decimals)
    printed = rows_as_json(block, decimals)
    assert (printed is None) == bool((abs(rounded) >= LARGEST).any())
    if printed is not None:
        assert json.loads(b"[" + printed + b"]") == rounded.tolist()


@pytest.mark.parametrize(("rows", "scale"), [(3, 1.0), (3, 30.0), (NUMBERS_AT_ONCE // 8, 1.0), (1, 0.0)])
@pytest.mark.parametrize("decimals", [None, 0, 2, 4])
def test_gates_that_are_printed_together_are_those_printed_one_by_one(
    rows: int, scale: float, decimals: int | None
) -> None:
    generator = np.random.default_rng(0)
    gates = {name: generator.normal(0, 0.5, (rows, 5)).astype(np.float32) for name in ("forget", "cell", "hidden")}
    gates["cell"] *= scale  # one that the table does not hold
    layers = [LayerGates(0, "forward", gates)]
    together = b"".join(traces_as_json(HEAD, [TraceAnswer({"tokens": []}, layers, {"contributions": None})], decimals))
    found = json.loads(together)["traces"][0]["layers"][0]["gates"]
    assert list(found) == list(gates)
    assert found == {name: shown(array, decimals) for name, array in gates.items()}


def test_a_gate_that_the_table_does_not_hold_leaves_the_others_in_it() -> None:
    gates = {name: np.full((2, 3), value, np.float32) for name, value in (("forget", 0.5), ("cell", 12.5))}
    blocks = [gates["forget"], gates["cell"], np.full((2, 3), np.nan, np.float32)]
    printed = tables_as_json(blocks, 4)
    assert printed == [rows_as_json(gates["forget"], 4), None, None]
    assert printed[0] is not None
    layers = [LayerGates(0, "forward", gates)]
    body = b"".join(traces_as_json(HEAD, [TraceAnswer({"tokens": []}, layers, {"contributions": None})], 4))
    assert printed[0] in body
    assert b'"cell":[[12.5,12.5,12.5],[12.5,12.5,12.5]]' in body


def test_a_gate_that_is_not_finite_is_not_printed_beside_others() -> None:
    gates = {"forget": np.ones((2, 3), np.float32), "cell": np.full((2, 3), np.nan, np.float32)}
    trace = TraceAnswer({"tokens": []}, [LayerGates(0, "forward", gates)], {"contributions": None})
    with pytest.raises(ValueError, match="not finite"):
        traces_as_json(HEAD, [trace], 4)


def test_arrays_of_any_layout() -> None:
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    for view in (whole[:, ::2], whole.T, whole[::-1], whole[1:2, 3:4]):
        assert shown(view, None) == view.tolist()
        file = b"".join(traces_as_safetensors(HEAD, [answer(view)]))
        assert np.array_equal(load(file)["0/0/forward/cell"], view)


def test_large_arrays_come_in_pieces() -> None:
    array = np.random.default_rng(0).random((NUMBERS_AT_ONCE // 10, 64)).astype(np.float32)
    pieces = traces_as_json(HEAD, [answer(array, array)], None)
    assert len(pieces) > 1
    assert all(len(piece) >= PIECE for piece in pieces[:-1])
    body = json.loads(b"".join(pieces))
    for layer in body["traces"][0]["layers"]:
        assert np.array_equal(np.array(layer["gates"]["cell"], np.float32), array)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_no_number_that_is_not_finite(bad: float) -> None:
    array = np.zeros((3, 2), np.float32)
    array[1, 1] = bad
    with pytest.raises(ValueError, match="finite"):
        traces_as_json(HEAD, [answer(array)], 4)
    with pytest.raises(ValueError, match="finite"):
        traces_as_safetensors(HEAD, [answer(array)])
