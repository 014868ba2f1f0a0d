"""Answers as bytes, from arrays that need no model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load

from service.api.render import NUMBERS_AT_ONCE, PIECE, TraceAnswer, traces_as_json, traces_as_safetensors
from service.contributions import Contributions
from service.gates import LayerGates

HEAD: dict[str, object] = {"model": "m"}


def answer(*arrays: NDArray[np.float32], contributions: Contributions | None = None) -> TraceAnswer:
    layers = [LayerGates(number, "forward", {"cell": array}) for number, array in enumerate(arrays)]
    return TraceAnswer([], {"label": "x"}, layers, contributions, None)


def shown(array: NDArray[np.float32], decimals: int | None) -> list[list[float]]:
    body = json.loads(b"".join(traces_as_json(HEAD, [answer(array)], decimals)))
    rows: list[list[float]] = body["traces"][0]["layers"][0]["gates"]["cell"]
    return rows


def test_numbers_are_as_short_as_they_can_be() -> None:
    array = np.array([[0.91, -0.00001, 1 / 3]], np.float32)
    body = b"".join(traces_as_json(HEAD, [answer(array)], 4))
    assert b"[[0.91,0.0,0.3333]]" in body
    assert shown(array, None) == [[0.91, -1e-05, 0.33333334]]


@pytest.mark.parametrize("decimals", [0, 1, 4, 17])
def test_rounding_is_numpys(decimals: int) -> None:
    array = np.random.default_rng(0).normal(0, 3, (50, 7)).astype(np.float32)
    assert np.array_equal(np.array(shown(array, decimals)), np.round(array.astype(np.float64), decimals))


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
    row = np.array([0.0, bad])
    split: Contributions = {
        "labels": ["a", "b"],
        "bias": np.zeros(2),
        "tokens": row[None],
        "logits": row,
        "of": "tokens",
        "method": "m",
    }
    for trace in (answer(array), answer(np.zeros((1, 1), np.float32), contributions=split)):
        with pytest.raises(ValueError, match="finite"):
            traces_as_json(HEAD, [trace], 4)
        with pytest.raises(ValueError, match="finite"):
            traces_as_safetensors(HEAD, [trace])
