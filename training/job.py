"""One training job: what to train, on which files, and where the bundle goes. `training.run` runs it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from service.model.rules import Style
from training.data.sources import AS_FOUND, Layout
from training.loop.fit import Recipe
from training.nets.initial import Initial
from training.nets.networks import Design, Dropouts

_FEW = 5000
"""Examples below which training overfits soonest."""


class TrainingError(Exception):
    """A training that came to nothing."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to train, on which files, and where the bundle goes (`out` is its folder, ``models/NAME``)."""

    design: Design
    train: tuple[Path, ...]
    dev: tuple[Path, ...]
    test: tuple[Path, ...]
    vectors: Path | None
    start: Path | None
    """A pretrained encoder (``training pretrain``), which brings its own words; sentiment only."""
    words: int
    dropout: float | None
    word_dropout: float | None
    """None leaves either to `suited`."""
    recipe: Recipe
    device: str
    out: Path
    licence: str
    command: str
    """The command that repeats the job, for the manifest and the card."""
    style: Style | None = None
    """How raw text is cut; None for the style that returns most of the first training file's own tokens."""
    embedding_dropout: float | None = None
    """None for the same as `dropout`."""
    weight_drop: float = 0.0
    locked: bool = True
    initial: Initial | None = None
    checkpoint_every: int = 0
    """Steps from one checkpoint to the next, below `out`; there is one after each epoch too. 0 for none."""
    resume: bool = False
    log: Path | None = None
    tensorboard: Path | None = None
    layout: Layout = AS_FOUND
    """Which columns of all the files hold texts and labels, or tokens and tags."""
    threads: int = 0
    """Of torch; 0 for a choice by the network's size (`training.loop.threads`)."""

    def suited(self, examples: int) -> Job:
        """The same with every setting fixed, for training data of so many examples: few need more dropout."""
        few = examples < _FEW
        return replace(
            self,
            recipe=self.recipe.suited(examples),
            dropout=(0.5 if few else 0.3) if self.dropout is None else self.dropout,
            word_dropout=(0.2 if few else 0.02) if self.word_dropout is None else self.word_dropout,
        )

    @property
    def dropouts(self) -> Dropouts:
        units = self.dropout or 0.0
        embeddings = units if self.embedding_dropout is None else self.embedding_dropout
        return Dropouts(embeddings, units, self.weight_drop, self.locked)
