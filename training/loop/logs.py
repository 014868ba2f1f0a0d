"""Logs of every step: one JSON object in each line, and optionally TensorBoard."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from training.errors import TrainingError

Record = dict[str, float | int]
"""A step's: step, epoch, loss, rate, gradient (its norm before clipping), clipped (0 or 1), tokens, seconds. An
epoch's: step, epoch, score, best, clipped (the share of its steps)."""
Write = Callable[[Record], None]


class LogError(TrainingError):
    """A log that cannot be written or read."""


class Log:
    """A file of JSON lines, added to as the training goes."""

    def __init__(self, file: Path, after: int) -> None:
        """`after` is the last valid step. Later records in the file belong to steps that a resumed training repeats;
        they are removed. 0 begins a new file.
        """
        kept = [record for record in read(file) if record["step"] <= after] if after and file.exists() else []
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file.open("w", encoding="utf-8")
        self._started = time.monotonic() - max((record["seconds"] for record in kept if "seconds" in record), default=0)
        for record in kept:
            self._file.write(json.dumps(record) + "\n")

    def __call__(self, record: Record) -> None:
        line = record | {"seconds": round(time.monotonic() - self._started, 3)}
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise LogError(f"{self._file.name}: {error.strerror}") from error

    def close(self) -> None:
        try:
            self._file.close()  # and writes what an earlier error left
        except OSError as error:
            raise LogError(f"{self._file.name}: {error.strerror}") from error


def read(file: Path) -> list[Record]:
    """The records of a log. Raises `LogError` for a file that is none; a last line cut off by a kill is passed over."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise LogError(f"{file}: not a log of a training, for it is not UTF-8") from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError:
            if number == len(lines):
                break
            raise LogError(f"{file}:{number}: not a line of JSON") from None
        if not isinstance(record, dict) or "step" not in record:
            raise LogError(f"{file}:{number}: not a record of a training, which has a step")
        if not all(isinstance(figure, int | float) for figure in record.values()):
            raise LogError(f"{file}:{number}: not a record of a training, which holds numbers alone")
        found.append(record)
    return found


def check_tensorboard() -> None:
    """Raises `LogError` if TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise LogError("TensorBoard is not installed: install the extra 'tensorboard' (gatelight[tensorboard])")


def tensorboard(folder: Path, after: int) -> tuple[Write, Callable[[], None]]:
    """A writer of the same records as TensorBoard scalars, and a function that closes it."""
    check_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder), purge_step=after + 1 if after else None)

    def write(record: Record) -> None:
        kind = "epoch" if "score" in record else "step"
        for name, number in record.items():
            if name not in ("step", "epoch"):
                writer.add_scalar(f"{kind}/{name}", number, int(record["step"]))

    return write, writer.close


def together(writes: Sequence[Write]) -> Write:
    """One for all."""

    def write(record: Record) -> None:
        for each in writes:
            each(record)

    return write
