"""Checkpoints of a training run. Each is written whole or not at all; reading one runs no code from the file."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from training.errors import TrainingError

FILE = "checkpoint.pt"
_FORMAT = 3


class CheckpointError(TrainingError):
    """A checkpoint that cannot be written, or continued from."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """One training's checkpoint, always the latest.

    `settings` hold every option that must be the same for a continued training to give the result of an undisturbed
    one.
    """

    folder: Path
    settings: Mapping[str, object]
    every: int = 500
    """Steps from one checkpoint to the next; there is one after each epoch too."""

    @property
    def file(self) -> Path:
        return self.folder / FILE

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint by this one: tensors, numbers, texts, and lists and dictionaries of them."""
        write(self.file, {"format": _FORMAT, "settings": _plain(self.settings), "state": dict(state)})

    def load(self) -> dict[str, Any] | None:
        """The last saved state, or None. Raises `CheckpointError` if it belongs to another training."""
        if not self.file.exists():
            return None
        found = read(self.file)
        theirs, ours = json.loads(found["settings"]), json.loads(_plain(self.settings))
        if differing := sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name)):
            name = differing[0]
            raise CheckpointError(
                f"{self.file} is of another training: {name} was {_short(theirs.get(name))} and is "
                f"{_short(ours.get(name))}; train without --resume to begin anew"
            )
        state: dict[str, Any] = found["state"]
        return state

    def remove(self) -> None:
        """There is nothing left to continue."""
        self.file.unlink(missing_ok=True)


def write(file: Path, content: Mapping[str, Any]) -> None:
    """Write a temporary file, sync it to the disk, then rename it. A process killed in between leaves the old file
    unchanged. Raises `CheckpointError` if the disk does not take it."""
    beside = file.with_name(f".{file.name}.part")
    try:
        # By its path: an interrupt within the writing of a file object would become a RuntimeError of torch.
        try:
            torch.save(dict(content), beside)
        except RuntimeError as error:
            raise CheckpointError(f"{file} cannot be written: is the disk full? ({_short(error)})") from error
        with beside.open("rb") as out:
            os.fsync(out.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
    # The move itself lives in the folder.
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(file: Path) -> dict[str, Any]:
    """Read a file of `write`. Raises `CheckpointError` for a damaged file or another format."""
    try:
        with zipfile.ZipFile(file) as parts:
            if damaged := parts.testzip():
                raise CheckpointError(f"{file} cannot be read as a checkpoint: {damaged} is damaged")
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, LookupError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{file} cannot be read as a checkpoint: {_short(error)}") from error
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise CheckpointError(f"{file} is no checkpoint of this version; train without --resume to begin anew")
    return found


def _plain(settings: Mapping[str, object]) -> str:
    return json.dumps(settings, sort_keys=True, default=str)


def _short(value: object) -> str:
    text = " ".join(str(value).split()) or type(value).__name__
    return text if len(text) < 60 else f"{text[:57]}…"
