"""The judge that exports are held to, judged by another one: the tests' own reference, and traces that are wrong."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from service.model.engine import GateKey
from service.model.equations import Direction
from service.model.reference import step
from tests import reference as own
from tests.bundles import KINDS, Kind, architecture, network, random_rows, table
from training.export.reference import deviation, weights
from training.nets.networks import Network


def traced(cell: Kind, layers: int = 2) -> tuple[Network, NDArray[np.float64], dict[GateKey, NDArray[np.float64]]]:
    """A network, one embedded input, and its trace by the tests' own reference."""
    shape = architecture(cell=cell, layers=layers)
    net, (row,) = network(shape), random_rows(shape, (12,))
    embedded = table(net).double().numpy()[row[:, 0]]
    return net, embedded, own.answer(net, row).gates


@pytest.mark.parametrize("cell", KINDS)
def test_a_step_is_the_equations(cell: Kind) -> None:
    net, embedded, gates = traced(cell, layers=1)
    cell_weights = weights(net.recurrent()[0].directions()[0])
    states = ("hidden", "cell") if cell in ("lstm", "peephole", "peephole-full") else ("hidden",)
    before = {state: np.vstack([np.zeros(8), gates[0, "forward", state][:-1]]) for state in states}
    for gate, rows in step(net.architecture.cell, net.architecture.form, cell_weights, embedded, before).items():
        assert rows.dtype == np.float64
        assert rows == pytest.approx(gates[0, "forward", gate], abs=1e-12), gate


@pytest.mark.parametrize("cell", KINDS)
def test_no_deviation_of_what_is_right(cell: Kind) -> None:
    assert deviation(*traced(cell)) < 1e-12


@pytest.mark.parametrize("cell", KINDS)
def test_any_gate_that_is_wrong_at_any_row_is_seen(cell: Kind) -> None:
    net, embedded, gates = traced(cell)
    for key, row in product(gates, (0, 5, 11)):
        wrong = {other: array.copy() for other, array in gates.items()}
        wrong[key][row, 3] += 1e-3
        assert deviation(net, embedded, wrong) >= 1e-3 - 1e-9, (key, row)


@pytest.mark.parametrize("cell", KINDS)
def test_a_trace_whose_directions_are_swapped_is_seen(cell: Kind) -> None:
    net, embedded, gates = traced(cell, layers=1)
    turned: dict[Direction, Direction] = {"forward": "backward", "backward": "forward"}
    swapped = {key: gates[key[0], turned[key[1]], key[2]] for key in gates}
    assert deviation(net, embedded, swapped) > 0.01


def test_the_complement_of_the_update_gate_is_seen() -> None:
    net, embedded, gates = traced("gru", layers=1)
    wrong = {key: 1 - array if key[2] == "update" else array for key, array in gates.items()}
    assert deviation(net, embedded, wrong) > 0.01


@pytest.mark.parametrize("cell", KINDS)
def test_what_is_no_number_is_a_deviation(cell: Kind) -> None:
    net, embedded, gates = traced(cell)
    for key in gates:
        wrong = dict(gates) | {key: np.full_like(gates[key], np.nan)}
        assert not deviation(net, embedded, wrong) <= 1.0
