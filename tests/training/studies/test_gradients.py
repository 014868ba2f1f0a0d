"""How far a signal reaches, against cells whose answer is known, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.bundles import tiny_bundle
from training.cli import app
from training.nets.cells import NAMED, Cell, make
from training.studies.gradients import reach

STEPS = 30


def silent(name: str, **biases: float) -> Cell:
    """A cell without weights, whose gates have these pre-activations."""
    cell = make(name, 3, 4)
    for parameter in cell.parameters():
        parameter.data.zero_()
    for gate, bias in biases.items():
        cell.weights()[gate].w_bias.fill_(bias)
    return cell


def nothing(rows: int = 2, steps: int = STEPS) -> torch.Tensor:
    return torch.zeros(rows, steps, 3)


@pytest.mark.parametrize(
    ("factor", "verdict"), [(0.5, "vanishes: 0.500"), (1.0, "carries: 1.000"), (1.5, "explodes: 1.500")]
)
def test_an_elman_networks_signal_is_its_matrix_to_the_distance(factor: float, verdict: str) -> None:
    cell = silent("rnn")
    cell.matrices()[1].data.copy_(torch.eye(4) * factor)  # at the state 0 the slope of tanh is 1
    found = reach("rnn", cell, nothing())
    assert found.hidden == pytest.approx(tuple(factor**distance for distance in range(STEPS)))
    assert found.decay == pytest.approx(factor)
    assert found.verdict.startswith(verdict)
    assert found.gone_at == (10 if factor == 0.5 else None)


@pytest.mark.parametrize("name", ["lstm", "peephole"])
def test_an_lstms_cell_state_carries_the_signal_by_its_forget_gate(name: str) -> None:
    found = reach(name, silent(name, forget=3.0, output=50.0), nothing())
    forget = 1 / (1 + np.exp(-3.0))
    assert found.cell[0] == 0
    assert np.array(found.cell[1:]) == pytest.approx(forget ** np.arange(1, STEPS))
    assert not any(found.hidden[1:]), "without recurrent weights nothing goes through the hidden state"
    assert found.decay == pytest.approx(forget, abs=1e-6)


def test_a_grus_signal_is_carried_by_what_it_keeps() -> None:
    for name in ("gru", "gru-before"):
        found = reach(name, silent(name, keep=2.0), nothing())
        kept = 1 / (1 + np.exp(-2.0))
        assert found.hidden == pytest.approx(tuple(kept ** np.arange(STEPS)))


@pytest.mark.parametrize("name", NAMED)
def test_the_signal_is_autograds_over_the_whole_sequence(name: str) -> None:
    """The gradient at the first step's inputs is what arrives there."""
    torch.manual_seed(1)
    cell, inputs = make(name, 3, 4).double(), torch.randn(1, 7, 3, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    arriving = torch.randn(1, 4, generator=generator, dtype=torch.float64)
    arriving /= arriving.norm()
    state = cell.read(inputs[:, :3])[1]
    state = tuple(each.detach().requires_grad_() for each in state)
    expected = torch.autograd.grad((cell.read(inputs[:, 3:], state)[0][:, -1] * arriving).sum(), state)
    found = reach(name, cell, inputs)
    assert found.hidden[0] == pytest.approx(1.0)
    assert found.hidden[4] == pytest.approx(float(expected[0].norm())) if len(state) == 1 else True
    if len(state) == 2:
        assert found.cell[4] == pytest.approx(float(_of_cell(cell, inputs, arriving)), rel=1e-9)


def _of_cell(cell: Cell, inputs: torch.Tensor, arriving: torch.Tensor) -> torch.Tensor:
    """The gradient at the third step's cell state, on both of its ways: within that step, and to the next."""
    _, before = cell.read(inputs[:, :2])
    _, (hidden, state) = cell.read(inputs[:, 2:3], before)
    last = cell.read(inputs[:, 3:], (hidden, state))[0][:, -1]
    return torch.autograd.grad((last * arriving).sum(), state)[0].norm()


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["gradients", *arguments], env={"COLUMNS": "250"})
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_compares_fresh_cells(tmp_path: Path) -> None:
    figures, picture = tmp_path / "a.json", tmp_path / "a.svg"
    shown = run(
        "--cells", "rnn,lstm", "--length", "12", "--hidden", "5", "--json", str(figures), "--plot", str(picture)
    )
    assert "10 back" in shown
    rnn, lstm = json.loads(figures.read_text("utf-8"))
    assert (rnn["name"], len(rnn["hidden"]), rnn["cell"]) == ("rnn", 12, [])
    assert len(lstm["cell"]) == 12
    assert lstm["verdict"] in " ".join(shown.split()) or lstm["verdict"][:10] in shown
    assert b"<svg" in picture.read_bytes()


@pytest.mark.parametrize("cell", ["peephole", "peephole-full", "gru-before", "mingru"])
def test_the_command_shows_a_model_before_and_after_training(tmp_path: Path, cell: str) -> None:
    model = str(tiny_bundle(tmp_path / "tiny", cell=cell, layers=2).path.parent)  # type: ignore[arg-type]  # a kind
    figures = tmp_path / "a.json"
    run(model, "--length", "9", "--json", str(figures))
    names = [each["name"] for each in json.loads(figures.read_text("utf-8"))]
    assert names == [f"{cell} {when} training (tiny)" for when in ("before", "after")]
    run(model, "--text", "a great film", "--text", "it is bad .", "--json", str(figures))
    found = json.loads(figures.read_text("utf-8"))
    assert [len(each["hidden"]) for each in found] == [3, 3, 4, 4]


def test_something_has_to_be_looked_at() -> None:
    for arguments, message in (
        ((), "name models"),
        (("--cells", "rnn", "--text", "a film"), "a text is read by a model"),
    ):
        done = CliRunner().invoke(app, ["gradients", *arguments], env={"COLUMNS": "250"})
        assert done.exit_code == 2
        assert message in done.output
