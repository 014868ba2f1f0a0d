"""What units do over a text, against numbers worked out by hand."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from service.model.equations import CellName, gate_names, keeper
from service.model.unit_statistics import LONGEST, change, horizon, kept, of_gate, saturates, saturation


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def test_saturation_is_a_share_of_time() -> None:
    below, above = saturation(column(0.05, 0.5, 0.95, 0.99))
    assert (below.tolist(), above.tolist()) == ([0.25], [0.5])
    edges = saturation(column(float(np.float32(0.1)), float(np.float32(0.9))))
    assert [each.tolist() for each in edges] == [[0.0], [0.0]]


@pytest.mark.parametrize(
    ("factors", "steps"),
    [
        ((np.exp(-1 / 5),) * 3, 5.0),  # constant: e^(-n/5) is 1/e at n = 5
        ((np.exp(-1.0), np.exp(-3.0)), 0.5),  # two steps to e^-4: half a step to 1/e
        ((0.5, 0.0), 0.0),
        ((1.0, 1.0), LONGEST),
    ],
)
def test_a_horizon_is_where_the_product_of_what_is_kept_reaches_one_over_e(
    factors: tuple[float, ...], steps: float
) -> None:
    assert horizon(column(*factors)) == pytest.approx([steps], rel=1e-6)


def test_change_is_from_token_to_token() -> None:
    assert change(column(0.2, 0.5, 0.4)) == pytest.approx([0.2])
    assert change(column(0.2)).tolist() == [0.0]


@pytest.mark.parametrize("cell", get_args(CellName))
def test_only_gates_in_0_to_1_saturate(cell: CellName) -> None:
    logistic = {gate for gate in gate_names(cell) if saturates(cell, gate)}
    assert logistic == {"forget", "input", "output", "update", "reset"} & set(gate_names(cell))
    for gate in gate_names(cell):
        assert ("below" in of_gate(cell, gate, column(0.5, 0.6))) is (gate in logistic)


def test_a_gru_keeps_what_it_does_not_update() -> None:
    assert kept("gru", column(0.25)).tolist() == [[0.75]]
    assert kept("mingru", column(0.25)).tolist() == [[0.75]]
    assert kept("lstm", column(0.25)).tolist() == kept("minlstm", column(0.25)).tolist() == [[0.25]]
    assert keeper("rnn") is None
