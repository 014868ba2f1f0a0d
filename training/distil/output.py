"""The file that a long labelling writes part by part, and that a run with the same settings continues after a kill."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from training.data.corpora import CorpusError
from training.data.outputs import naming
from training.data.sources import Tell, silent

_AWAY = "remove it, or give another --out"


@dataclass(frozen=True, slots=True)
class Output:
    """A gzipped file of lines. The `settings` it was begun with stand beside it, in ``FILE.settings.json``."""

    file: Path
    settings: Mapping[str, object]

    @property
    def beside(self) -> Path:
        return self.file.with_name(self.file.name + ".settings.json")

    def begin(self) -> list[str]:
        """The whole lines that an earlier run left; none for a new file.

        Raises `CorpusError` for a file that was begun with other settings, or that no such run wrote.
        """
        ours = json.loads(json.dumps(self.settings))
        if not self.file.exists():
            with naming(self.beside):
                self.beside.write_text(json.dumps(ours, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            return []
        try:
            theirs = dict(json.loads(self.beside.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            missing = f"it cannot be continued, because {self.beside.name} does not say how it was begun"
            raise CorpusError(self.file, f"{missing}: {_AWAY}") from error
        for name in sorted({*theirs, *ours}, key=[*ours, *theirs].index):
            if theirs.get(name) != ours.get(name):
                was, now = (_shown(each.get(name)) for each in (theirs, ours))
                raise CorpusError(
                    self.file, f"it was begun with other settings: {name} was {was} and is {now}; {_AWAY}"
                )
        try:
            return list(whole_lines(self.file))
        except (OSError, UnicodeDecodeError, zlib.error) as error:
            raise CorpusError(self.file, f"it is damaged ({error}): {_AWAY}") from error

    def keep(self, lines: Iterable[str]) -> None:
        """Replace the file by these lines."""
        part = self.file.with_name(self.file.name + ".part")
        with naming(part), gzip.open(part, "wt", encoding="utf-8") as file:
            file.writelines(lines)
        part.replace(self.file)

    def append(self, lines: Iterable[str]) -> None:
        """Add lines, as a gzip member of their own."""
        with naming(self.file), gzip.open(self.file, "at", encoding="utf-8") as file:
            file.writelines(lines)


def whole_lines(file: Path, cut: Tell = silent) -> Iterator[str]:
    """The whole lines of a gzipped file that may have been cut off: `cut` then gets the reason."""
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield line if line.endswith("\n") else line + "\n"  # the last line of a whole file
    except EOFError as error:
        cut(str(error))


def short_digest(file: Path) -> str:
    """The beginning of a file's SHA-256, by which two of one name are told apart. Raises `CorpusError`."""
    try:
        return sha256(file.read_bytes()).hexdigest()[:12]
    except OSError as error:
        raise CorpusError(file, f"it cannot be read: {error.strerror}") from error


def _shown(value: object) -> str:
    if value is None:
        return "not given"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
