"""One training job: what to train, on which files, and where the bundle goes. `training.run` runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.fit import Recipe
from training.initial import Initial
from training.networks import Design, Dropouts
from training.sources import AS_FOUND, Layout


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
    dropout: float
    word_dropout: float
    recipe: Recipe
    device: str
    out: Path
    licence: str
    command: str
    """The command that repeats the job, for the manifest and the card."""
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

    @property
    def dropouts(self) -> Dropouts:
        embeddings = self.dropout if self.embedding_dropout is None else self.embedding_dropout
        return Dropouts(embeddings, self.dropout, self.weight_drop, self.locked)
