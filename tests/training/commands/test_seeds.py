"""Every command takes the seeds that torch and NumPy take, and no other."""

from __future__ import annotations

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.training.commands.test_outputs import commands
from training.cli import app
from training.options import MAX_SEED

SEEDED = [name for name, each in commands(app) if any(option.name == "seed" for option in each.params)]


def test_the_highest_seed_is_one_of_both() -> None:
    np.random.default_rng(MAX_SEED + 1)
    torch.Generator().manual_seed(MAX_SEED + 1024)


def test_every_command_with_a_seed_is_tried() -> None:
    assert {"fit", "pretrain", "shortcut", "units", "robustness", "distil draw"} <= set(SEEDED)


@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_out_of_range_is_refused(name: str) -> None:
    for seed in (-5, MAX_SEED + 1, 10**23):
        done = CliRunner().invoke(app, [*name.split(), "--seed", str(seed)], env={"COLUMNS": "200"})
        assert done.exit_code == 2, done.output
        assert f"'--seed': {seed} is not in the range 0<=x<={MAX_SEED}" in done.output


@pytest.mark.parametrize("name", SEEDED)
def test_the_ends_of_the_range_are_taken(name: str) -> None:
    for seed in (0, MAX_SEED):
        done = CliRunner().invoke(app, [*name.split(), "--seed", str(seed)], env={"COLUMNS": "200"})
        assert isinstance(done.exception, SystemExit | click.ClickException), done.output
        assert "--seed" not in done.output
