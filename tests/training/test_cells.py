"""The cells against the equations in float64, and the order and the start of their weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from service.equations import CellName
from tests.reference import CELLS as REFERENCE
from training.cells import CELLS, GRU, LSTM, Cell

NAMES: list[CellName] = ["lstm", "gru"]
INPUTS, UNITS = 12, 5


def cell_of(name: CellName, *, seed: int = 3) -> Cell:
    """A cell with random weights, biases among them."""
    torch.manual_seed(seed)
    cell = CELLS[name](INPUTS, UNITS)
    for parameter in cell.parameters():
        parameter.data.normal_(0, 0.6)
    return cell


def constant_cell(name: CellName, **biases: float) -> Cell:
    """A cell without weights, whose gates have these pre-activations whatever they read."""
    cell = CELLS[name](INPUTS, UNITS)
    for parameter in cell.parameters():
        parameter.data.zero_()
    for gate, bias in biases.items():
        cell.weights()[gate].w_bias.fill_(bias)  # a view of torch's stacked rows
    return cell


def states(cell: Cell, inputs: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return cell(inputs).numpy()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("time", [1, 2, 17, 60])
def test_states_are_those_of_the_equations(name: CellName, time: int) -> None:
    cell = cell_of(name)
    inputs = torch.randn(3, time, INPUTS)
    actual = states(cell, inputs)
    assert actual.shape == (3, time, UNITS)
    for row in range(3):
        expected = REFERENCE[name](cell.kernel, inputs[row].double().numpy())
        assert actual[row] == pytest.approx(expected["hidden"], abs=1e-6)


def test_every_cell_is_tested() -> None:
    assert set(CELLS) == set(REFERENCE) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_padding_on_the_right_is_not_noticed(name: CellName) -> None:
    cell = cell_of(name)
    inputs = torch.randn(2, 9, INPUTS)
    changed = inputs.clone()
    changed[:, 6:] = 1e3
    np.testing.assert_array_equal(states(cell, inputs)[:, :6], states(cell, changed)[:, :6])


@pytest.mark.parametrize(
    ("name", "order"),
    [("lstm", ("input", "forget", "candidate", "output")), ("gru", ("reset", "keep", "candidate"))],
)
def test_weights_by_name_are_torchs_blocks_in_torchs_order(name: CellName, order: tuple[str, ...]) -> None:
    cell = cell_of(name)
    found = cell.weights()
    assert tuple(found) == order
    for number, gate in enumerate(order):
        rows = slice(number * UNITS, (number + 1) * UNITS)
        kernel = cell.kernel
        for part, stacked in (
            (found[gate].w, kernel.weight_ih_l0),
            (found[gate].r, kernel.weight_hh_l0),
            (found[gate].w_bias, kernel.bias_ih_l0),
            (found[gate].r_bias, kernel.bias_hh_l0),
        ):
            assert torch.equal(part, stacked.detach()[rows])
            assert not part.requires_grad


ZERO = torch.zeros(1, 4, INPUTS)


def test_each_lstm_gate_does_what_its_name_says() -> None:
    shut, open_ = -50.0, 50.0
    kept = constant_cell("lstm", forget=open_, input=open_, candidate=open_, output=open_)
    assert states(kept, ZERO)[0, :, 0] == pytest.approx(np.tanh([1, 2, 3, 4]), abs=1e-6)
    forgotten = constant_cell("lstm", forget=shut, input=open_, candidate=open_, output=open_)
    assert states(forgotten, ZERO)[0, :, 0] == pytest.approx(np.tanh([1, 1, 1, 1]), abs=1e-6)
    for closed in ("input", "output"):
        gates = {"forget": open_, "input": open_, "candidate": open_, "output": open_, closed: shut}
        assert states(constant_cell("lstm", **gates), ZERO) == pytest.approx(0, abs=1e-6)
    negative = constant_cell("lstm", forget=shut, input=open_, candidate=-open_, output=open_)
    assert states(negative, ZERO)[0, :, 0] == pytest.approx(np.tanh([-1] * 4), abs=1e-6)


def test_torchs_update_gate_keeps_the_old_state() -> None:
    # z of the equations is the complement: with keep near 1 nothing ever gets in, with keep near 0 everything does.
    assert states(constant_cell("gru", keep=50.0, candidate=50.0), ZERO) == pytest.approx(0, abs=1e-6)
    assert states(constant_cell("gru", keep=-50.0, candidate=50.0), ZERO) == pytest.approx(1, abs=1e-6)
    halves = states(constant_cell("gru", keep=0.0, candidate=50.0), ZERO)[0, :, 0]
    assert halves == pytest.approx([1 / 2, 3 / 4, 7 / 8, 15 / 16], abs=1e-6)


def test_the_reset_gate_is_applied_after_the_product() -> None:
    cell = constant_cell("gru", keep=-50.0, reset=-50.0)
    cell.weights()["candidate"].r_bias.fill_(50.0)
    assert states(cell, ZERO) == pytest.approx(0, abs=1e-6), "a closed reset gate hides the recurrent bias as well"
    cell.weights()["reset"].w_bias.fill_(50.0)
    assert states(cell, ZERO) == pytest.approx(1, abs=1e-6)


def test_the_forget_bias_is_one_in_the_sum_of_both_biases() -> None:
    for gate, weights in LSTM(INPUTS, UNITS).weights().items():
        both = weights.w_bias + weights.r_bias
        assert torch.equal(both, torch.full((UNITS,), 1.0 if gate == "forget" else 0.0)), gate


def test_a_grus_biases_start_at_zero() -> None:
    for weights in GRU(INPUTS, UNITS).weights().values():
        assert not weights.w_bias.any()
        assert not weights.r_bias.any()


@pytest.mark.parametrize("name", NAMES)
def test_recurrent_weights_start_orthogonal_gate_by_gate(name: CellName) -> None:
    for gate, weights in CELLS[name](INPUTS, UNITS).weights().items():
        assert (weights.r @ weights.r.T).numpy() == pytest.approx(np.eye(UNITS), abs=1e-5), gate


@pytest.mark.parametrize("name", NAMES)
def test_input_weights_start_as_glorots_gate_by_gate(name: CellName) -> None:
    inputs, units = 100, 80
    bound = math.sqrt(6 / (inputs + units))  # of one gate, not of all of them stacked
    for gate, weights in CELLS[name](inputs, units).weights().items():
        assert float(weights.w.abs().max()) <= bound, gate
        assert float(weights.w.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05), gate
