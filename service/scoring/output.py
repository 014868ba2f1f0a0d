"""Records as lines of a file, and the continuation of a killed run. Each record is one line, in the order of the rows,
so the last whole line of the output shows how far a run came. Rows that are set aside go to a file of their own, before
the records of their window. A continued run removes rows past the last record from it, and finds them again. A file
beside the output describes the run, with the digests of its files. Only the same run continues.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import orjson

from service.errors import ServiceError
from service.model.bundle import Manifest
from service.scoring.rows import Row
from service.scoring.work import Done, Record

Form = Literal["jsonl", "csv"]
RUN, REJECTED = ".run.json", ".rejected.jsonl"
_BLOCK = 1 << 16


class OutputError(ServiceError):
    """The output cannot be written, or a run cannot go on; the message says why."""


Key = tuple[str, int]
"""A row: its file, and its number there."""


class Lines:
    """Records as lines: JSON, or CSV with a header."""

    def __init__(self, form: Form, manifest: Manifest, keep: Sequence[str]) -> None:
        """`keep` are the names of the columns that rows carry along. Raises `OutputError` if a CSV table has a
        column of that name already."""
        self._form = form
        self._keep = tuple(keep)
        self._labels = None if manifest.head == "tagger" else manifest.labels
        found = ["label", "score", *self._labels] if self._labels is not None else ["entities"]
        self._columns = ["file", "row", *self._keep, *found, "truncated"]
        if form == "csv" and (twice := {name for name in self._columns if self._columns.count(name) > 1}):
            named = ", ".join(sorted(twice))
            raise OutputError(f"the table of answers has a column {named} already: rename yours, or use --to jsonl")

    @property
    def header(self) -> bytes:
        if self._form == "jsonl":
            return b""
        return _csv_line(self._columns)

    def line(self, row: Row, record: Record) -> bytes:
        if self._form == "jsonl":
            return _json_line({**self._named(row), **record})
        return _csv_line(
            [row.file, row.number, *map(_cell, row.kept), *self._cells(record), str(record["truncated"]).lower()]
        )

    def rejected(self, row: Row, reason: str) -> bytes:
        """The line of a row that was set aside."""
        return _json_line({**self._named(row), "reason": reason})

    def _named(self, row: Row) -> Record:
        named: Record = {"file": row.file, "row": row.number}
        return {**named, "kept": dict(zip(self._keep, row.kept, strict=True))} if self._keep else named

    def key(self, line: bytes) -> Key:
        """The row of a line. Raises `OutputError` for another kind of line."""
        try:
            if self._form == "jsonl":
                body = orjson.loads(line)
                return str(body["file"]), int(body["row"])
            file, row = next(csv.reader([line.decode()]))[:2]
            return file, int(row)
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise OutputError("The output's last line was not written by this command; nothing was changed.") from error

    def _cells(self, record: Mapping[str, object]) -> list[object]:
        if self._labels is None:
            return [orjson.dumps(record["entities"]).decode()]
        scores = record["scores"]
        assert isinstance(scores, dict)
        return [record["label"], record["score"], *(scores[label] for label in self._labels)]


class Output:
    """The destination of records: a file, with another file for rows set aside; or standard output and standard
    error."""

    def __init__(self, path: Path | None, lines: Lines, run: Mapping[str, Any], *, resume: bool) -> None:
        self.last: Key | None = None
        """The last row that an earlier run wrote a record of; None for none."""
        self.rejected = 0
        self._lines = lines
        if path is None:
            self._records: IO[bytes] = sys.stdout.buffer
            self._rejected: IO[bytes] | None = None
            self._write(self._records, [lines.header])
            return
        beside, self._rejected_path = path.with_name(path.name + RUN), path.with_name(path.name + REJECTED)
        try:
            if resume and path.exists():
                self._go_on(path, beside, run)
            else:
                self._begin(path, beside, run)
            self._records, self._rejected = path.open("ab", 0), self._rejected_path.open("ab", 0)
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror}") from error

    def write(self, done: Done) -> None:
        """Write a window: first the rows set aside, then the records. Raises `OutputError` if it cannot be written."""
        aside = [self._lines.rejected(row, outcome) for row, outcome in done.rows if isinstance(outcome, str)]
        lines = [self._lines.line(row, outcome) for row, outcome in done.rows if not isinstance(outcome, str)]
        self.rejected += len(aside)
        if self._rejected is not None:
            self._write(self._rejected, aside)
        elif aside:
            sys.stderr.write(b"".join(aside).decode())
        self._write(self._records, lines)

    def close(self) -> None:
        if self._rejected is not None:
            self._records.close()
            self._rejected.close()
            if not self._rejected_path.stat().st_size:
                self._rejected_path.unlink()

    def _write(self, file: IO[bytes], lines: Sequence[bytes]) -> None:
        rest = memoryview(b"".join(lines))
        try:
            while rest:
                rest = rest[file.write(rest) :]  # an unbuffered file takes only as many bytes as the disk has room for
            file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            if file is sys.stdout.buffer:
                raise OutputError(f"standard output: {error.strerror}") from error
            raise OutputError(f"{file.name}: {error.strerror}. Mend that and go on with --resume.") from error

    def _begin(self, path: Path, beside: Path, run: Mapping[str, Any]) -> None:
        check_free(path, run["files"])
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rejected_path.unlink(missing_ok=True)
        beside.write_bytes(_json_line(dict(run)))
        path.write_bytes(self._lines.header)

    def _go_on(self, path: Path, beside: Path, run: Mapping[str, Any]) -> None:
        """Cut the output behind its last whole line, and remove rows set aside past it."""
        _check_same(path, beside, orjson.loads(orjson.dumps(dict(run))))
        with path.open("r+b") as file:
            end, line = _last_line(file)
            if end < len(self._lines.header):
                file.truncate(0)
                file.seek(0)
                file.write(self._lines.header)
            else:
                file.truncate(end)
                self.last = self._lines.key(line) if end > len(self._lines.header) else None
        self._take_back(run["files"])

    def _take_back(self, files: Sequence[str]) -> None:
        if not self._rejected_path.exists():
            return
        kept = 0
        with self._rejected_path.open("r+b") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                found = orjson.loads(line)
                if self.last is None or place(files, (found["file"], found["row"])) > place(files, self.last):
                    break
                kept += len(line)
                self.rejected += 1
            file.truncate(kept)


def check_free(path: Path, files: Sequence[str]) -> None:
    """Raises `OutputError` if the output exists, or a file that is written beside it is one of `files`."""
    if path.exists():
        raise OutputError(f"{path} is there already: go on with --resume, or name another file.")
    for beside in (path.with_name(path.name + RUN), path.with_name(path.name + REJECTED)):
        if beside.exists() and any(Path(file).exists() and beside.samefile(file) for file in files):
            raise OutputError(f"{beside} is one of the files to score, and belongs to --output {path}: name another.")


def _check_same(path: Path, beside: Path, now: Mapping[str, Any]) -> None:
    """Raise `OutputError` unless the note beside an output is about this run, of files that are as they were."""
    try:
        before = orjson.loads(beside.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError) as error:
        raise OutputError(
            f"{path} cannot be continued: {beside.name}, which describes its run, is missing or damaged. "
            "Name another file."
        ) from error
    changed = sorted(name for name in {*before, *now} - {"digests"} if before.get(name) != now.get(name))
    if changed:
        raise OutputError(f"{path} is from another run: {', '.join(changed)} differed. Name another file.")
    rewritten = [name for name, digest in now["digests"].items() if before["digests"].get(name) != digest]
    if rewritten:
        raise OutputError(f"{path} cannot go on: {', '.join(rewritten)} changed since it began. Name another file.")


def place(files: Sequence[str], key: Key) -> tuple[int, int]:
    return files.index(key[0]), key[1]


def _last_line(file: IO[bytes]) -> tuple[int, bytes]:
    """End of the last whole line, and that line; (0, b"") without one."""
    position = file.seek(0, os.SEEK_END)
    tail = b""
    while position and tail.count(b"\n") < 2:
        start = max(0, position - _BLOCK)
        file.seek(start)
        tail = file.read(position - start) + tail
        position = start
    whole, newline, rest = tail.rpartition(b"\n")
    return position + len(tail) - len(rest), whole.rpartition(b"\n")[2] if newline else b""


def _json_line(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _cell(value: object) -> str:
    """A kept value in a table: a text as it is, nothing for null, anything else as JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    return orjson.dumps(value).decode()


def _csv_line(cells: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()
