"""A file of labelled data as text: its decoding, its line ends, and its name in error messages."""

from __future__ import annotations

import gzip
import os
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from training.errors import TrainingError

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BINARY = {
    b"\x1f\x8b": "the file is gzip; let its name end in .gz, such as reviews.csv.gz",
    b"PK\x03\x04": "the file is a zip archive or an Excel workbook; unpack it, or save the sheet as CSV in UTF-8",
    b"PAR1": "the file is Parquet; save it as CSV in UTF-8 or as JSON lines",
    b"BZh": "the file is bzip2; unpack it, or pack it with gzip",
    b"\xfd7zXZ": "the file is xz; unpack it, or pack it with gzip",
    b"\x28\xb5\x2f\xfd": "the file is zstd; unpack it, or pack it with gzip",
    b"\xd0\xcf\x11\xe0": "the file is an old Excel workbook; save the sheet as CSV in UTF-8",
}
"""First bytes of files that are no text, and what to do."""
_NUMBER = re.compile(r"-?[0-9]{1,4}")
_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)\}")

Tell = Callable[[str], None]
"""Gets each note as one line."""


def silent(_: str) -> None:
    """Drop a note."""


class CorpusError(TrainingError):
    """A file of labelled data cannot be used: ``FILE:LINE: what is wrong, what would be right``."""

    def __init__(self, path: Path | str, detail: str, line: int | None = None) -> None:
        super().__init__(f"{path}: {detail}" if line is None else f"{path}:{line}: {detail}")


@dataclass(frozen=True, slots=True)
class Example:
    """One input and its expected answer: a text and its label, or tokens and their tags (IOB2, one for each token)."""

    value: str | tuple[str, ...]
    label: str | tuple[str, ...]
    lines: tuple[int, ...] = field(default=(), compare=False, repr=False)
    """Line number of each label in the file, for error messages; () without a file."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns that hold the parts of an example, each by its name or its number: 1 is the first, -1 the last.

    None: `training.data.corpora.read` finds the column by itself.
    """

    text: str | None = None
    label: str | None = None
    token: str | None = None
    tag: str | None = None


AS_FOUND = Layout()
"""No column is named."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file's whole text, its layout, and its name for errors and notes."""

    path: Path
    text: str
    layout: Layout
    tell: Tell

    @property
    def line_end(self) -> str:
        """``"\\n"``, which may follow a ``"\\r"``; in a file without any, ``"\\r"``."""
        return "\n" if "\n" in self.text else "\r"

    def lines(self) -> Iterator[tuple[int, str]]:
        """Line numbers from 1, and the lines without their ends."""
        for number, line in enumerate(self.text.split(self.line_end), start=1):
            yield number, line.removesuffix("\r")

    def error(self, line: int | None, detail: str) -> CorpusError:
        return CorpusError(self.path, detail, line)

    def note(self, detail: str) -> None:
        self.tell(f"note: {self.path}: {detail}")


def is_gzip(path: Path) -> bool:
    """True for a name that ends in ``.gz``."""
    return path.suffix.lower() == ".gz"


def text_of(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark, plain or ``.gz``. Raises `CorpusError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        detail = "it is a folder; name a file" if path.is_dir() else f"it cannot be read: {error.strerror}"
        raise CorpusError(path, detail) from error
    if is_gzip(path):
        try:
            data = gzip.decompress(data)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise CorpusError(path, f"it is not a whole gzip file ({error}); compress or fetch it again") from error
    for first, remedy in _BINARY.items():
        if data.startswith(first):
            raise CorpusError(path, remedy)
    try:
        text = data.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        bad, line = error.object[error.start], error.object.count(b"\n", 0, error.start) + 1
        detail = f"the byte 0x{bad:02X} is not UTF-8; save the file as UTF-8"
        if data.startswith(_UTF16):
            detail = f"the byte 0x{bad:02X} is not UTF-8: the file is UTF-16; save it as UTF-8"
        raise CorpusError(path, detail, line) from error
    if (at := text.find("\0")) >= 0:
        what = "the file is UTF-16" if text.count("\0") * 3 > len(text) else "the file is not text, or damaged"
        raise CorpusError(path, f"a NUL character: {what}; save it as UTF-8 text", text.count("\n", 0, at) + 1)
    return text


def plain_texts(path: Path) -> list[Example]:
    """The texts of a plain file, one in each line that is not blank, without labels. Raises `CorpusError`."""
    lines = enumerate(text_of(path).split("\n"), 1)
    examples = [Example(line.strip(), "", (number,)) for number, line in lines if line.strip()]
    if not examples:
        raise CorpusError(path, "it holds no text; a line is a text")
    return examples


def filled(text: str) -> str:
    """A text with the values of its variables, $NAME or ${NAME}. Raises `KeyError` for one that is not set."""
    return _VARIABLE.sub(lambda found: os.environ[found[1] or found[2]], text)


def is_number(wanted: str | None) -> bool:
    """True if a column is named by its number."""
    return wanted is not None and _NUMBER.fullmatch(wanted) is not None


def position(wanted: str, names: Sequence[str], count: int) -> int | None:
    """The column that `wanted` means, from 0: a number, or the only column of that name; None for neither.

    A name with other capitals is taken if no name is the same.
    """
    if not is_number(wanted):
        if wanted not in names:
            wanted, names = wanted.strip().casefold(), [name.strip().casefold() for name in names]
        return names.index(wanted) if names.count(wanted) == 1 else None
    number = int(wanted)
    return number - 1 if 0 < number <= count else count + number if -count <= number < 0 else None


def some(lines: Sequence[int], most: int = 5) -> str:
    """``line 3``, ``lines 3, 7, 9``, or ``lines 3, 7, 9, 12, 15, …`` for more than `most`."""
    shown = ", ".join(f"{line}" for line in lines[:most])
    return f"line{'s' if len(lines) > 1 else ''} {shown}{', …' if len(lines) > most else ''}"


def few(names: Iterable[str], most: int = 20) -> str:
    """``a, b, c``; of more than `most` names the first, and how many more there are. A long name is cut."""
    every = list(names)
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(map(cut, every[:most])) + more


def cut(name: str, most: int = 60) -> str:
    """The beginning of a long name, for a message."""
    return name if len(name) <= most else f"{name[:most]}…"


def points(characters: Iterable[str]) -> str:
    """``U+00A0, U+200B``: characters that cannot be seen, each once."""
    return ", ".join(dict.fromkeys(f"U+{ord(char):04X}" for char in characters))


def unfit(name: str) -> str | None:
    """The flaw of a string that is no name of a label or a type, and the remedy; None for a name, and for "".

    Names are printed in tables and cards, in one line each.
    """
    kinds = [unicodedata.category(char) for char in name]
    if broken := [char for char, kind in zip(name, kinds, strict=True) if kind in ("Cc", "Zl", "Zp")]:
        return f"holds a control character or a line end ({points(broken)}); write it without"
    if name and all(kind in ("Cf", "Zs") for kind in kinds):
        return f"shows nothing ({points(name)}); write one that can be seen"
    return None
