"""The layout of a bundle's weights file: the names of its tensors, the order of its gates, the bounds of int8 layers.

This module is the only owner of these facts: exporters, engines, streams and references import them. For readers,
docs/explanation/weights.md describes the same file with all shapes; a test compares the page with this module and with
the shipped files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from service.model.equations import CellName

STACKING: Final[Mapping[CellName, tuple[str, ...]]] = {
    "rnn": ("hidden",),
    "lstm": ("input", "output", "forget", "candidate"),
    "peephole": ("input", "output", "forget", "candidate"),
    "gru": ("keep", "reset", "candidate"),
    "mingru": ("update", "candidate"),
    "minlstm": ("forget", "input", "candidate"),
}
"""The order of the gates' rows in W, R and each half of B: ONNX's, if it has an operator for the cell. A GRU's update
gate is stored as its complement, ``keep``."""
PEEPHOLES: Final = ("input", "output", "forget")
"""The order of the gates' rows in P, for diagonal peepholes. Full ones follow `STACKING`."""
INT8_BOUNDS: Final = 2
"""Extra columns of W and R, and extra units of each gate, in an int8 layer. They fix the range of quantization."""

WORDS: Final = "embedding.word"
HEAD_WEIGHT: Final = "head.weight"
HEAD_BIAS: Final = "head.bias"
HEAD_QUERY: Final = "head.query"
CHARACTER_BIAS: Final = "character.bias"
CHARACTERS: Final = "character"
"""The LSTM over characters: a layer like the recurrent ones."""
_RECURRENT: Final = "recurrent."


def layer_name(number: int) -> str:
    """The recurrent layer `number`, from 0. Its tensors are this name with ``.W``, ``.R``, ``.B`` and ``.P``."""
    return f"{_RECURRENT}{number}"


def is_recurrent(name: str) -> bool:
    """True for a tensor of a recurrent layer."""
    return name.startswith(_RECURRENT)


def table_name(feature: str) -> str:
    """The table of a feature's vectors."""
    return f"embedding.{feature}"


def scale_name(tensor: str) -> str:
    """The scales of a tensor of integers. Its zero points, all 0, have the ending ``.zero``."""
    return f"{tensor}.scale"


def fine_name(table: str) -> str:
    """The lower four bits of a table with eight bits in its first rows and four in the others."""
    return f"{table}.fine"
