"""Embeddings, recurrent layers, and a head: the networks that this project trains.

Shapes: tokens int [batch, time, features], lengths int [batch]; padding is on the right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from service.bundle import Feature, FeatureName, Head, Task
from service.equations import CellName, Direction, GruReset
from training.cells import CELLS, Cell

EMBEDDING_SIZES: dict[FeatureName, int] = {"word": 100, "shape": 8, "prefix": 16, "suffix": 16}
"""Columns of each feature's embedding table; pretrained word vectors bring their own number."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """Everything that fixes a network's parameters and their shapes."""

    task: Task
    cell: CellName
    directions: tuple[Direction, ...]
    layers: int
    hidden: int
    head: Head
    labels: tuple[str, ...]
    features: tuple[Feature, ...]
    word_size: int = EMBEDDING_SIZES["word"]
    reset: GruReset = "after"
    """Where a GRU's reset gate acts; nothing to other cells."""

    def columns(self, feature: Feature) -> int:
        """Columns of a feature's embedding table."""
        return self.word_size if feature.name == "word" else EMBEDDING_SIZES[feature.name]

    @property
    def gru_reset(self) -> GruReset | None:
        return self.reset if self.cell == "gru" else None

    @property
    def width(self) -> int:
        """Units of all directions together: the size of a layer's output."""
        return self.hidden * len(self.directions)


class Network(nn.Module):
    """tokens, lengths → logits: [batch, labels], or [batch, time, labels] under a tagging head.

    `dropout` zeroes whole units for a sequence at a time (variational dropout, Gal and Ghahramani 2016), at the
    embeddings and at each layer's output; `word_dropout` turns words into the unknown word, so that its row learns.
    """

    def __init__(self, architecture: Architecture, dropout: float = 0.0, word_dropout: float = 0.0) -> None:
        super().__init__()
        self.architecture, self.dropout, self.word_dropout = architecture, dropout, word_dropout
        self.embeddings = nn.ModuleDict(
            {feature.name: _table(feature.size, architecture.columns(feature)) for feature in architecture.features}
        )
        width = sum(architecture.columns(feature) for feature in architecture.features)
        self.layers = nn.ModuleList()
        for _ in range(architecture.layers):
            self.layers.append(Layer(architecture, width))
            width = architecture.width
        self.head = nn.Linear(width, len(architecture.labels))

    def recurrent(self) -> list[Layer]:
        """The recurrent layers, from the embeddings up."""
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def embed(self, tokens: Tensor) -> Tensor:
        """tokens [batch, time, features] → [batch, time, sum of the embedding sizes]."""
        columns = list(tokens.unbind(2))
        if self.training and self.word_dropout:
            drop = torch.rand_like(columns[0], dtype=torch.float) < self.word_dropout
            columns[0] = columns[0].masked_fill(drop, 0)
        return torch.cat([table(ids) for table, ids in zip(self.embeddings.values(), columns, strict=True)], dim=2)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        valid = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        states = _locked_dropout(self.embed(tokens), self.dropout, self.training)
        for layer in self.layers:
            states = _locked_dropout(layer(states, lengths), self.dropout, self.training)
        logits: Tensor = self.head(self._pool(states, lengths, valid))
        return logits

    def _pool(self, states: Tensor, lengths: Tensor, valid: Tensor) -> Tensor:
        """What the head sees: states [batch, time, width] → [batch, width], or all of them under a tagging head."""
        match self.architecture.head:
            case "tagger":
                return states
            case "max":
                return states.masked_fill(~valid[..., None], -2.0).amax(1)
            case "mean":
                return states.masked_fill(~valid[..., None], 0.0).sum(1) / lengths[:, None]
            case "last":
                last = states[torch.arange(len(states), device=states.device), lengths - 1]
                units = self.architecture.hidden
                return torch.cat([last[:, :units], states[:, 0, units:]], dim=1)


class Layer(nn.Module):
    """One recurrent layer in one direction or two: [batch, time, inputs] → [batch, time, units of all directions]."""

    def __init__(self, architecture: Architecture, inputs: int) -> None:
        super().__init__()
        make = CELLS[architecture.cell, architecture.gru_reset]
        self.cells = nn.ModuleList(make(inputs, architecture.hidden) for _ in architecture.directions)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        outputs = [self.cells[0](inputs)]
        if len(self.cells) == 2:
            turn = _reversal(lengths, inputs.shape[1])
            outputs.append(_reorder(self.cells[1](_reorder(inputs, turn)), turn))
        return torch.cat(outputs, dim=2)

    def directions(self) -> list[Cell]:
        """The forward cell, then the backward one where there is one."""
        return [cell for cell in self.cells if isinstance(cell, Cell)]


def _table(rows: int, columns: int) -> nn.Embedding:
    table = nn.Embedding(rows, columns)
    nn.init.uniform_(table.weight, -((3 / columns) ** 0.5), (3 / columns) ** 0.5)
    return table


def _reversal(lengths: Tensor, time: int) -> Tensor:
    """Positions [batch, time] that turn each row around within its own length and leave its padding in place."""
    steps = torch.arange(time, device=lengths.device)
    mirrored = lengths[:, None] - 1 - steps
    return torch.where(mirrored >= 0, mirrored, steps)


def _reorder(states: Tensor, positions: Tensor) -> Tensor:
    return states.gather(1, positions[..., None].expand(-1, -1, states.shape[2]))


def _locked_dropout(states: Tensor, share: float, training: bool) -> Tensor:
    if not (training and share):
        return states
    keep = torch.rand(states.shape[0], 1, states.shape[2], device=states.device) >= share
    return states * keep / (1 - share)
