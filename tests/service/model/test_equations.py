"""The one table of cells: names, equations and ranges, and that real traces stay within them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from service.model.engine import Engine
from service.model.equations import (
    CellName,
    Form,
    GruReset,
    Peepholes,
    equations,
    gate_names,
    gates,
    keeper,
    tensor_key,
)
from tests.bundles import KINDS, Kind, architecture, named, random_rows, tiny_bundle

CONTRACT = {
    "lstm": "forget input output candidate cell hidden",
    "peephole": "forget input output candidate cell hidden",
    "gru": "update reset candidate hidden",
    "rnn": "hidden",
    "mingru": "update candidate hidden",
    "minlstm": "forget input candidate hidden",
}


@pytest.mark.parametrize("cell", get_args(CellName))
def test_gate_names_are_those_of_the_contract(cell: CellName) -> None:
    assert " ".join(gate_names(cell)) == CONTRACT[cell]


@pytest.mark.parametrize("cell", get_args(CellName))
@pytest.mark.parametrize("form", [None, *get_args(GruReset), *get_args(Peepholes)])
def test_every_gate_has_an_equation(cell: CellName, form: Form | None) -> None:
    printed = equations(cell, form)
    assert tuple(printed) == gate_names(cell)
    assert all(" = " in equation for equation in printed.values())


def test_the_equations_of_the_lstm() -> None:
    assert equations("lstm") == {
        "forget": "f_t = sigmoid(W_f [h_{t-1}, x_t] + b_f)",
        "input": "i_t = sigmoid(W_i [h_{t-1}, x_t] + b_i)",
        "output": "o_t = sigmoid(W_o [h_{t-1}, x_t] + b_o)",
        "candidate": "C~_t = tanh(W_C [h_{t-1}, x_t] + b_C)",
        "cell": "C_t = f_t * C_{t-1} + i_t * C~_t",
        "hidden": "h_t = o_t * tanh(C_t)",
    }


def test_the_gru_says_which_reset_it_has_and_which_way_its_update_gate_goes() -> None:
    after, before = equations("gru", "after"), equations("gru", "before")
    assert equations("gru") == after
    assert after["candidate"] == "h~_t = tanh(W_h x_t + b_h + r_t * (R_h h_{t-1} + c_h))"
    assert before["candidate"] == "h~_t = tanh(W_h [r_t * h_{t-1}, x_t] + b_h)"
    assert {gate for gate in after if after[gate] != before[gate]} == {"candidate"}
    assert after["hidden"] == "h_t = (1 - z_t) * h_{t-1} + z_t * h~_t"
    assert "torch and ONNX call 1 - z_t the update gate" in after["update"]


def test_the_peepholes_see_the_cell() -> None:
    plain, peephole = equations("lstm"), equations("peephole")
    assert "p_f * C_{t-1}" in peephole["forget"]
    assert "p_i * C_{t-1}" in peephole["input"]
    assert "p_o * C_t" in peephole["output"], "the output gate sees the new cell"
    assert {gate for gate in plain if plain[gate] != peephole[gate]} == {"forget", "input", "output"}


def test_full_peepholes_are_matrices_and_the_candidate_sees_the_cell() -> None:
    diagonal, full = equations("peephole", "diagonal"), equations("peephole", "full")
    assert diagonal == equations("peephole")
    assert full == {
        "forget": "f_t = sigmoid(W_f [h_{t-1}, x_t, C_{t-1}] + b_f)",
        "input": "i_t = sigmoid(W_i [h_{t-1}, x_t, C_{t-1}] + b_i)",
        "output": "o_t = sigmoid(W_o [h_{t-1}, x_t, C_t] + b_o)",
        "candidate": "C~_t = tanh(W_C [h_{t-1}, x_t, C_{t-1}] + b_C)",
        "cell": "C_t = f_t * C_{t-1} + i_t * C~_t",
        "hidden": "h_t = o_t * tanh(C_t)",
    }


def test_no_gate_of_a_minimal_cell_sees_the_state() -> None:
    keepers: dict[CellName, str] = {"mingru": "update", "minlstm": "forget"}
    for cell, keeps in keepers.items():
        printed = equations(cell)
        assert not any("h_{t-1}" in equation for gate, equation in printed.items() if gate != "hidden")
        found = keeper(cell)
        assert found is not None
        assert (found.gate, found.complement) == (keeps, cell == "mingru")
    assert equations("minlstm")["hidden"] == "h_t = f'_t * h_{t-1} + i'_t * h~_t"
    assert equations("mingru")["hidden"] == equations("gru")["hidden"]


@pytest.mark.parametrize("cell", KINDS)
def test_traces_stay_within_the_ranges(tmp_path: Path, cell: Kind) -> None:
    engine = Engine(tiny_bundle(tmp_path / "m", cell=cell, layers=2))
    trace = engine.trace(random_rows(architecture(cell=cell, layers=2), (60,)))
    ranges = {gate.name: (gate.low, gate.high) for gate in gates(*named(cell))}
    assert {gate for _, _, gate in trace.gates(0)} == set(ranges)
    for (_, _, gate), array in trace.gates(0).items():
        low, high = ranges[gate]
        assert np.isfinite(array).all()
        assert low <= array.min()
        assert array.max() <= high
    assert ranges["hidden"] == (-1, 1)


def test_one_key_names_a_gates_tensor_everywhere() -> None:
    assert tensor_key(0, "forget") == "0.forget"
    assert "gate." + tensor_key(0, "forget", "forward") == "gate.0.forward.forget"
    assert "0/" + tensor_key(1, "cell", "backward", "/") == "0/1/backward/cell"
