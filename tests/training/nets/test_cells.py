"""The cells against the equations in float64, and the order and the start of their weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from service.model.equations import equations
from tests.bundles import KINDS, Kind, named
from tests.reference import CELLS as REFERENCE
from training.nets.cells import CELLS, GRU, LSTM, NAMED, Cell, FullPeephole, MinGRU, MinLSTM, Peephole, word_of

OWN: list[Kind] = ["peephole", "peephole-full", "gru-before", "mingru", "minlstm"]
MINIMAL: list[Kind] = ["mingru", "minlstm"]
FUSED: list[Kind] = ["rnn", "lstm", "gru"]
INPUTS, UNITS = 12, 5
ZERO = torch.zeros(1, 4, INPUTS)


def fresh(name: Kind, inputs: int = INPUTS, units: int = UNITS) -> Cell:
    return CELLS[named(name)](inputs, units)


def cell_of(name: Kind, *, seed: int = 3) -> Cell:
    """A cell with random weights, biases among them."""
    torch.manual_seed(seed)
    cell = fresh(name)
    for parameter in cell.parameters():
        parameter.data.normal_(0, 0.6)
    return cell


def constant_cell(name: Kind, **biases: float) -> Cell:
    """A cell without weights, whose gates have these pre-activations whatever they read."""
    cell = fresh(name)
    for parameter in cell.parameters():
        parameter.data.zero_()
    for gate, bias in biases.items():
        cell.weights()[gate].w_bias.fill_(bias)  # a view of torch's stacked rows
    return cell


def states(cell: Cell, inputs: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return cell(inputs).numpy()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("time", [1, 2, 17, 60])
def test_states_are_those_of_the_equations(name: Kind, time: int) -> None:
    cell = cell_of(name)
    inputs = torch.randn(3, time, INPUTS)
    actual = states(cell, inputs)
    assert actual.shape == (3, time, UNITS)
    for row in range(3):
        expected = REFERENCE[name](cell, inputs[row].double().numpy())
        assert actual[row] == pytest.approx(expected["hidden"], abs=1e-6)


def test_every_cell_is_tested() -> None:
    assert len(CELLS) == len(KINDS)
    assert set(REFERENCE) == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_padding_on_the_right_is_not_noticed(name: Kind) -> None:
    cell = cell_of(name)
    inputs = torch.randn(2, 9, INPUTS)
    changed = inputs.clone()
    changed[:, 6:] = 1e3
    np.testing.assert_array_equal(states(cell, inputs)[:, :6], states(cell, changed)[:, :6])


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("rnn", ("hidden",)),
        ("lstm", ("input", "forget", "candidate", "output")),
        ("gru", ("reset", "keep", "candidate")),
    ],
)
def test_weights_by_name_are_torchs_blocks_in_torchs_order(name: Kind, order: tuple[str, ...]) -> None:
    cell = cell_of(name)
    found = cell.weights()
    assert tuple(found) == order
    for number, gate in enumerate(order):
        rows = slice(number * UNITS, (number + 1) * UNITS)
        kernel = cell.kernel
        assert isinstance(kernel, nn.RNNBase)
        stacked = dict(kernel.named_parameters())
        for part, name_of_block in (
            (found[gate].w, "weight_ih_l0"),
            (found[gate].r, "weight_hh_l0"),
            (found[gate].w_bias, "bias_ih_l0"),
            (found[gate].r_bias, "bias_hh_l0"),
        ):
            assert part is not None
            assert torch.equal(part, stacked[name_of_block].detach()[rows])
            assert not part.requires_grad


@pytest.mark.parametrize("name", OWN)
def test_weights_by_name_of_our_own_cells(name: Kind) -> None:
    cell = cell_of(name)
    w, r, bias, second = cell.stacked()
    assert second is None
    for number, (gate, found) in enumerate(cell.weights().items()):
        rows = slice(number * UNITS, (number + 1) * UNITS)
        assert torch.equal(found.w, w.detach()[rows])
        if r is None:
            assert found.r is None
        else:
            assert found.r is not None
            assert torch.equal(found.r, r.detach()[rows])
        assert torch.equal(found.w_bias, bias.detach()[rows])
        assert not found.r_bias.any()
        seen = {"input": 0, "forget": 1, "output": 2}.get(gate) if isinstance(cell, Peephole) else None
        if isinstance(cell, FullPeephole):
            assert found.peephole is not None
            assert torch.equal(found.peephole, cell.peepholes.detach()[rows])
        elif seen is None:
            assert found.peephole is None
        else:
            assert isinstance(cell, Peephole)
            assert found.peephole is not None
            assert torch.equal(found.peephole, cell.peepholes.detach()[seen])


def test_docstrings_hold_the_equations() -> None:
    for (name, form), cell in CELLS.items():
        for equation in equations(name, form).values():
            assert equation.partition("  (")[0] in (cell.__doc__ or ""), (name, form)


@pytest.mark.parametrize("name", KINDS)
def test_a_state_is_carried_over(name: Kind) -> None:
    cell = cell_of(name)
    inputs = torch.randn(3, 11, INPUTS)
    with torch.inference_mode():
        whole, last = cell.read(inputs)
        first, middle = cell.read(inputs[:, :4])
        second, end = cell.read(inputs[:, 4:], middle)
    assert torch.cat([first, second], 1).numpy() == pytest.approx(whole.numpy(), abs=1e-6)
    assert len(end) == (2 if name in ("lstm", "peephole", "peephole-full") else 1)
    for one, other in zip(last, end, strict=True):
        assert one.shape == (3, UNITS)
        assert one.numpy() == pytest.approx(other.numpy(), abs=1e-6)
    assert torch.equal(whole[:, -1], last[0])


def test_without_peepholes_the_peephole_cell_is_the_lstm() -> None:
    lstm, peephole = cell_of("lstm"), cell_of("peephole")
    w, r, w_bias, r_bias = lstm.stacked()
    assert isinstance(peephole, Peephole)
    assert r is not None
    assert r_bias is not None
    for own, theirs in ((peephole.w, w), (peephole.r, r), (peephole.bias, w_bias + r_bias)):
        own.data.copy_(theirs)
    peephole.peepholes.data.zero_()
    inputs = torch.randn(2, 30, INPUTS)
    assert states(peephole, inputs) == pytest.approx(states(lstm, inputs), abs=1e-6)


def test_without_peepholes_the_full_form_is_the_lstm_and_with_a_diagonal_the_other_form() -> None:
    diagonal, full = cell_of("peephole"), cell_of("peephole-full")
    assert isinstance(diagonal, Peephole)
    assert isinstance(full, FullPeephole)
    full.load_state_dict({**full.state_dict(), "w": diagonal.w, "r": diagonal.r, "bias": diagonal.bias})
    i, f, o = diagonal.peepholes.detach()
    full.peepholes.data.copy_(torch.cat([torch.diag(i), torch.diag(f), torch.zeros(UNITS, UNITS), torch.diag(o)]))
    inputs = torch.randn(2, 30, INPUTS)
    assert states(full, inputs) == pytest.approx(states(diagonal, inputs), abs=1e-6)
    lstm = cell_of("lstm")
    w, r, w_bias, r_bias = lstm.stacked()
    assert r is not None
    assert r_bias is not None
    full.load_state_dict({**full.state_dict(), "w": w, "r": r, "bias": w_bias + r_bias})
    full.peepholes.data.zero_()
    assert states(full, inputs) == pytest.approx(states(lstm, inputs), abs=1e-6)


def test_each_gate_of_a_minimal_cell_does_what_its_name_says() -> None:
    assert states(constant_cell("mingru", update=50.0, candidate=50.0), ZERO) == pytest.approx(1, abs=1e-6)
    assert states(constant_cell("mingru", update=-50.0, candidate=50.0), ZERO) == pytest.approx(0, abs=1e-6)
    halves = [1 / 2, 3 / 4, 7 / 8, 15 / 16]
    assert states(constant_cell("mingru", update=0.0, candidate=50.0), ZERO)[0, :, 0] == pytest.approx(halves)
    # Only how the two gates compare counts, however far both are shut or open.
    for level in (-60.0, 0.0, 60.0):
        cell = constant_cell("minlstm", forget=level, input=level, candidate=50.0)
        assert states(cell, ZERO)[0, :, 0] == pytest.approx(halves), level
    assert states(constant_cell("minlstm", forget=50.0, input=-50.0, candidate=50.0), ZERO) == pytest.approx(0)


def test_every_word_names_one_cell() -> None:
    assert {word_of(*NAMED[word]) for word in KINDS} == set(KINDS) == set(NAMED)


@pytest.mark.parametrize("name", FUSED)
def test_gradients_of_torchs_kernels_arrive_at_the_inputs_and_the_state(name: Kind) -> None:
    cell = cell_of(name)
    inputs = torch.randn(2, 6, INPUTS, requires_grad=True)
    state = tuple(torch.randn(2, UNITS, requires_grad=True) for _ in cell.read(inputs)[1])
    found = torch.autograd.grad(cell.read(inputs, state)[0][:, -1].sum(), (inputs, *state))
    assert all(bool(gradient.any()) for gradient in found)


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


def test_the_reset_gate_is_applied_before_the_product() -> None:
    # A closed reset gate hides the state, never the bias: candidates stay at tanh(bias).
    cell = constant_cell("gru-before", keep=-50.0, reset=-50.0, candidate=0.5)
    recurrent = cell.stacked().r
    assert recurrent is not None
    recurrent.data[-UNITS:] = 9.0
    assert states(cell, ZERO) == pytest.approx(np.tanh(0.5), abs=1e-6)
    cell.weights()["reset"].w_bias.fill_(50.0)
    assert states(cell, ZERO)[0, 1:] == pytest.approx(1, abs=1e-6)


def test_peepholes_see_the_old_cell_and_the_output_gates_the_new_one() -> None:
    cell = constant_cell("peephole", forget=50.0, input=50.0, candidate=50.0)
    assert isinstance(cell, Peephole)
    cell.peepholes.data[2] = 1.0
    counted = np.array([1.0, 2, 3, 4])
    assert states(cell, ZERO)[0, :, 0] == pytest.approx(np.tanh(counted) / (1 + np.exp(-counted)), abs=1e-6)
    cell.peepholes.data[:] = torch.tensor([[-100.0], [0.0], [0.0]])
    assert states(cell, ZERO)[0, :, 0] == pytest.approx(np.tanh([1.0] * 4) / 2, abs=1e-6), "a full cell takes no more"
    cell.peepholes.data[:] = torch.tensor([[0.0], [-100.0], [0.0]])
    assert states(cell, ZERO)[0, :, 0] == pytest.approx(np.tanh([1.0] * 4) / 2, abs=1e-6), "a full cell is emptied"


@pytest.mark.parametrize("make", [LSTM, Peephole, FullPeephole, MinLSTM])
def test_the_forget_bias_is_one_in_the_sum_of_both_biases(make: type[Cell]) -> None:
    for gate, weights in make(INPUTS, UNITS).weights().items():
        both = weights.w_bias + weights.r_bias
        assert torch.equal(both, torch.full((UNITS,), 1.0 if gate == "forget" else 0.0)), gate


@pytest.mark.parametrize("make", [GRU, MinGRU])
def test_a_grus_biases_start_at_zero(make: type[Cell]) -> None:
    for weights in make(INPUTS, UNITS).weights().values():
        assert not weights.w_bias.any()
        assert not weights.r_bias.any()


@pytest.mark.parametrize("name", KINDS)
def test_recurrent_weights_start_orthogonal_gate_by_gate(name: Kind) -> None:
    for gate, weights in fresh(name).weights().items():
        if name in MINIMAL:
            assert weights.r is None
            continue
        assert weights.r is not None
        assert (weights.r @ weights.r.T).numpy() == pytest.approx(np.eye(UNITS), abs=1e-5), gate


@pytest.mark.parametrize("name", KINDS)
def test_input_weights_start_as_glorots_gate_by_gate(name: Kind) -> None:
    inputs, units = 100, 80
    bound = math.sqrt(6 / (inputs + units))  # of one gate, not of all of them stacked
    for gate, weights in fresh(name, inputs, units).weights().items():
        assert float(weights.w.abs().max()) <= bound, gate
        assert float(weights.w.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05), gate
