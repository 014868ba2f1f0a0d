"""The page on how to train has every choice that there is. Its commands are run with those of the other pages."""

from __future__ import annotations

from typing import get_args

import pytest

from tests.test_docs import DOCS
from training.loop.schedules import OPTIMISERS, SCHEDULES
from training.loop.truncated import DOCUMENT_LOSSES
from training.nets.initial import InputStart, RecurrentStart

PAGE = (DOCS / "how-to" / "training-choices.md").read_text("utf-8")
CHOICES = {
    "--init-input": get_args(InputStart),
    "--init-recurrent": get_args(RecurrentStart),
    "--optimiser": OPTIMISERS,
    "--schedule": SCHEDULES,
    "--bptt-loss": DOCUMENT_LOSSES,
}


@pytest.mark.parametrize("flag", CHOICES)
def test_every_choice_is_named(flag: str) -> None:
    assert f"`{flag}" in PAGE
    for choice in CHOICES[flag]:
        assert f"`{choice}`" in PAGE or f"`{flag} {choice}`" in PAGE, choice
