"""Embeddings, recurrent layers, and a head: the networks that this project trains.

Shapes: tokens int [batch, time, columns of all features], lengths int [batch]; padding is on the right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from service.model.bundle import CharacterNetwork, Feature, FeatureName, Head, Task
from service.model.equations import MINIMAL, CellName, Direction, Form, GruReset, Peepholes
from service.model.windows import reach
from training.nets.cells import CELLS, Cell, Minimal, State
from training.nets.characters import CHARACTERS, Characters
from training.nets.crf import CRF
from training.nets.initial import Initial, initialise
from training.nets.pooling import Statistics, pool

EMBEDDING_SIZES: dict[FeatureName, int] = {"word": 100, "shape": 8, "prefix": 16, "suffix": 16}
"""Columns of each feature's embedding table; pretrained word vectors bring their own number."""


WordBits = Literal[4, 8, 16]


@dataclass(frozen=True, slots=True)
class Design:
    """The part of a network that is chosen before any data is seen."""

    task: Task
    cell: CellName
    directions: tuple[Direction, ...]
    layers: int
    hidden: int
    head: Head
    reset: GruReset = field(default="after", kw_only=True)
    """Place of a GRU's reset gate. Other cells ignore it."""
    peephole: Peepholes = field(default="diagonal", kw_only=True)
    """The part of the cell state that the gates of a peephole LSTM see. Other cells ignore it."""
    window_words: int = field(default=1, kw_only=True)
    """Words that the first layer of a minimal cell reads at each step: see `service.model.windows`."""
    characters: CharacterNetwork | None = field(default=None, kw_only=True)
    crf: bool = field(default=False, kw_only=True)
    word_bits: WordBits = field(default=16, kw_only=True)
    """In how many bits a bundle stores each number of the word vectors: with 4, those that were learned keep 8. Below
    16 it keeps the recurrent matrices in float16, too."""

    @property
    def gru_reset(self) -> GruReset | None:
        return self.reset if self.cell == "gru" else None

    @property
    def peepholes(self) -> Peepholes | None:
        return self.peephole if self.cell == "peephole" else None

    @property
    def form(self) -> Form | None:
        """The form of a cell with two forms; else None."""
        return self.gru_reset or self.peepholes

    @property
    def window(self) -> tuple[int, int]:
        """The words that the first layer reads before a step's own word, and after it."""
        return reach(self.window_words, self.directions)

    @property
    def width(self) -> int:
        """Units of all directions together: the size of a layer's output."""
        return self.hidden * len(self.directions)


@dataclass(frozen=True, slots=True)
class Architecture(Design):
    """Everything that fixes a network's parameters and their shapes: a design, the labels and the features."""

    labels: tuple[str, ...]
    features: tuple[Feature, ...]
    word_size: int = EMBEDDING_SIZES["word"]

    @classmethod
    def of(cls, design: Design, labels: tuple[str, ...], features: tuple[Feature, ...], word_size: int) -> Architecture:
        chosen = {each.name: getattr(design, each.name) for each in fields(Design)}
        return cls(**chosen, labels=labels, features=features, word_size=word_size)

    def size(self, feature: Feature) -> int:
        """Size that a feature adds to a token's vector: the columns of its embedding table, or of its network's
        output."""
        if feature.name == "character":
            assert self.characters is not None
            return CHARACTERS[self.characters].width
        return self.word_size if feature.name == "word" else EMBEDDING_SIZES[feature.name]


@dataclass(frozen=True, slots=True)
class Dropouts:
    """Shares that are zeroed in training, anew for every batch."""

    embeddings: float = 0.0
    """Share of the embeddings' columns, before the first layer."""
    layers: float = 0.0
    """Share of each layer's units: between layers, and before the head."""
    weights: float = 0.0
    """Share of the recurrent weights, for a whole pass (weight drop: Merity, Keskar and Socher 2018)."""
    locked: bool = True
    """One mask for all steps of a text (variational dropout, Gal and Ghahramani 2016), or a new one at each step
    (Srivastava et al. 2014; between layers, never in the recurrence: Zaremba, Sutskever and Vinyals 2014)."""
    words: float = 0.0
    """Share of the words that become the unknown word, so that its row learns."""


NO_DROPOUT = Dropouts()


class Network(nn.Module):
    """tokens, lengths → logits: [batch, labels], or [batch, time, labels] under a tagging head.

    In training, `dropouts` zero units at the embeddings and at each layer's output, and recurrent weights. Raises
    `ValueError` if it should drop weights that the cell does not have.
    """

    def __init__(
        self,
        architecture: Architecture,
        dropouts: Dropouts = NO_DROPOUT,
        initial: Initial | None = None,
    ) -> None:
        super().__init__()
        self.architecture, self.dropouts = architecture, dropouts
        if dropouts.weights and architecture.cell in MINIMAL:
            raise ValueError(f"{architecture.cell} has no recurrent weights that could be dropped")
        if architecture.window_words > 1 and architecture.cell not in MINIMAL:
            raise ValueError(f"a window of words is for {' and '.join(sorted(MINIMAL))}, not for {architecture.cell}")
        self.embeddings = nn.ModuleDict(
            {
                feature.name: Table(feature.size, architecture.size(feature))
                for feature in architecture.features
                if feature.name != "character"
            }
        )
        self.characters: Characters | None = None
        for feature in architecture.features:
            if feature.name == "character" and architecture.characters:
                self.characters = CHARACTERS[architecture.characters](feature.size)
        width = sum(architecture.size(feature) for feature in architecture.features) * architecture.window_words
        self.layers = nn.ModuleList()
        for _ in range(architecture.layers):
            self.layers.append(Layer(architecture, width))
            width = architecture.width
        self.head = nn.Linear(width, len(architecture.labels))
        self.query = nn.Parameter(torch.zeros(width)) if architecture.head == "attention" else None
        self.crf = CRF(architecture.labels) if architecture.crf else None

        for cell in (cell for layer in self.recurrent() for cell in layer.directions()):
            cell.weight_drop = self.dropouts.weights
            if initial and initial != Initial():
                initialise(cell.stacked(), cell.blocks, initial)

    def recurrent(self) -> list[Layer]:
        """The recurrent layers, from the embeddings up."""
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def learn(self, words: int) -> None:
        """Change the first `words` rows of the word table alone: the training data has no others."""
        table = self.embeddings["word"]
        assert isinstance(table, Table)
        table.learn(words)

    def embed(self, tokens: Tensor) -> Tensor:
        """tokens [batch, time, columns of all features] → [batch, time, sum of the features' sizes]."""
        parts = []
        for feature, ids in zip(self.architecture.features, self._split(tokens), strict=True):
            if feature.name == "character":
                assert self.characters is not None
                parts.append(self.characters.of_batch(ids))
                continue
            rows = ids[..., 0]  # (B, T)
            if feature.name == "word" and self.training and self.dropouts.words:
                drop = torch.rand_like(rows, dtype=torch.float) < self.dropouts.words
                rows = rows.masked_fill(drop, 0)
            parts.append(self.embeddings[feature.name](rows))  # (B, T, size)
        return torch.cat(parts, dim=2)

    def widen(self, vectors: Tensor, lengths: Tensor, passage: Passage | None = None) -> Tensor:
        """Words' vectors [batch, time, sizes] → the first layer's inputs: the vectors of all words of the window, zeros
        past a row's ends. With a `passage`, the words before the first column are those of the window before."""
        before, after = self.architecture.window
        if not before and not after:
            return vectors
        passage, (rows, time, sizes) = passage or Passage(), vectors.shape
        if after:
            there = torch.arange(time, device=lengths.device) < lengths[:, None]
            vectors = vectors * there[..., None]
        past = vectors.new_zeros(rows, before, sizes) if passage.words is None else passage.words.to(vectors.dtype)
        padded = torch.cat([past, vectors, vectors.new_zeros(rows, after, sizes)], dim=1)
        passage.words = padded[:, time : time + before]
        return torch.cat([padded[:, at : at + time] for at in range(before + 1 + after)], dim=2)

    def _split(self, tokens: Tensor) -> tuple[Tensor, ...]:
        return torch.split(tokens, [feature.columns for feature in self.architecture.features], dim=2)

    def forward(self, tokens: Tensor, lengths: Tensor, passage: Passage | None = None) -> Tensor:
        """With a `passage`, tokens are the next window of its texts, and lengths are those of the window. The logits of
        a classifier are then those of the text so far. The passage is changed, for the window after this one.
        """
        passage = passage or Passage()
        vectors = self._drop(self.embed(tokens), self.dropouts.embeddings, 0, passage)  # (B, T, sizes)
        states = self.widen(vectors, lengths, passage)  # (B, T, sizes · words of the window)
        for number, layer in enumerate(self.layers):
            states = self._drop(layer(states, lengths, passage, number), self.dropouts.layers, 1 + number, passage)
        units = self.architecture.hidden  # states are (B, T, units · directions)
        pooled, passage.pooled = pool(self.architecture.head, states, lengths, units, self.query, passage.pooled)
        logits: Tensor = self.head(pooled)  # (B, labels), or (B, T, labels) for a tagger
        return logits

    def _drop(self, states: Tensor, share: float, place: int, passage: Passage) -> Tensor:
        if not self.dropouts.locked:
            return nn.functional.dropout(states, share, self.training)
        if not (self.training and share):
            return states
        if place not in passage.units:
            passage.units[place] = torch.rand(states.shape[0], 1, states.shape[2], device=states.device) >= share
        return states * passage.units[place] / (1 - share)


@dataclass(slots=True)
class Passage:
    """The state that texts carry through a network from one window to the next; empty for the first window."""

    states: dict[int, State] = field(default_factory=dict)
    """By layer: after the last column of the window."""
    weights: dict[int, Tensor | None] = field(default_factory=dict)
    units: dict[int, Tensor] = field(default_factory=dict)
    """Masks that stay the same for a whole text: by layer those of its recurrent weights, and those of the units, of
    the embeddings (0) and of each layer's output (from 1)."""
    pooled: Statistics = ()
    words: Tensor | None = None
    """The vectors of the last words, [batch, words, sizes], for a window of words."""

    def cut(self, rows: Tensor) -> None:
        """Continue with these rows of the batch, without a gradient into earlier windows."""
        self.states = {layer: tuple(part.detach()[rows] for part in state) for layer, state in self.states.items()}
        self.units = {place: mask[rows] for place, mask in self.units.items()}
        self.pooled = tuple(part.detach()[rows] for part in self.pooled)
        self.words = None if self.words is None else self.words.detach()[rows]


class Layer(nn.Module):
    """One recurrent layer in one direction or two: [batch, time, inputs] → [batch, time, units of all directions]."""

    def __init__(self, architecture: Architecture, inputs: int) -> None:
        super().__init__()
        make = CELLS[architecture.cell, architecture.form]
        self.cells = nn.ModuleList(make(inputs, architecture.hidden) for _ in architecture.directions)

    def forward(self, inputs: Tensor, lengths: Tensor, passage: Passage | None = None, number: int = 0) -> Tensor:
        """With a `passage`, the next window, for the layer of this number. Raises `ValueError` for a second one if
        there is a backward reader: it begins at the text's end, which only the last window has."""
        passage = passage or Passage()
        forward, *backward = self.directions()
        if backward and number in passage.states:
            raise ValueError("a backward reader's state cannot be carried over")
        minimal = [cell for cell in self.cells if isinstance(cell, Minimal)]
        if minimal:
            states = Minimal.of_layer(minimal, inputs, lengths, passage.states.get(number))
            passage.states[number] = (states[:, -1, : minimal[0].units],)
            return states
        if number not in passage.weights:
            passage.weights[number] = forward.mask()
        output, passage.states[number] = forward.read(inputs, passage.states.get(number), passage.weights[number])
        if not backward:
            return output
        turn = reversal(lengths, inputs.shape[1])  # (B, T): positions in reading order of the backward cell
        return torch.cat([output, reorder(backward[0](reorder(inputs, turn)), turn)], dim=2)

    def directions(self) -> list[Cell]:
        """The forward cell, then the backward one if there is one."""
        return [cell for cell in self.cells if isinstance(cell, Cell)]


class Table(nn.Embedding):
    """An embedding table of which training may use, and change, the first rows alone.

    The rows of words that the training data has not would get no gradient; left out of the optimiser they cost nothing
    either. `learned` is those first rows, in the same memory as `weight`.
    """

    learned: nn.Parameter
    fine: int | None = None
    """First rows that a bundle in 4 bits keeps with 8; None leaves that to the export."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__(rows, columns, _weight=torch.empty(rows, columns))
        # Numbers of its own, so that those of the layers above do not depend on how many words there are.
        own = torch.Generator().manual_seed(torch.initial_seed())
        nn.init.uniform_(self.weight, -((3 / columns) ** 0.5), (3 / columns) ** 0.5, generator=own)

    def learn(self, rows: int) -> None:
        """From now on ids of a network in training are below `rows`, and only these rows change."""
        self.weight.requires_grad_(False)
        self.learned = nn.Parameter(self.weight[:rows])

    @property
    def learns(self) -> bool:
        """True after `learn`."""
        return "learned" in self._parameters

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.embedding(ids, self.learned if self.training and self.learns else self.weight)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Table:
        """Another device or type gives both parameters memory of their own: share it again."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch has no types here
        if self.learns:
            self.learned.data = self.weight.data[: len(self.learned)]
        return self


def reversal(lengths: Tensor, time: int) -> Tensor:
    """Positions [batch, time] that turn each row around within its own length and leave its padding in place."""
    steps = torch.arange(time, device=lengths.device)  # (T,)
    mirrored = lengths[:, None] - 1 - steps  # (B, T), negative in the padding
    return torch.where(mirrored >= 0, mirrored, steps)


def reorder(states: Tensor, positions: Tensor) -> Tensor:
    """The states of each row at the positions of `reversal`."""
    rows = torch.arange(len(positions), device=positions.device)[:, None] * positions.shape[1] + positions  # (B, T)
    turned: Tensor = _Turned.apply(states, rows.flatten())  # type: ignore[no-untyped-call]  # torch has none
    return turned


class _Turned(Function):
    """The states [batch, time, size] in an order of their rows [batch * time] that, taken twice, changes nothing: so
    the gradient takes the same way."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return states.flatten(0, 1).index_select(0, rows).view_as(states)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return gradient.flatten(0, 1).index_select(0, rows).view_as(gradient), None
