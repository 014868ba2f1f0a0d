"""Files that a command writes: none may be one that it reads, or be written twice, and errors name them."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from service.model.bundle import FILES, MANIFEST, UNITS

Named = Mapping[str, Path | Iterable[Path] | None]
"""Files by the option or argument that names them."""
_OF_A_BUNDLE = (MANIFEST, *FILES, UNITS)


def clash(outputs: Named, inputs: Named) -> str | None:
    """Why these files cannot be written: one is also read, or written under two names. None if they can be.

    Links to a file count as the file, and the files of a bundle as read where its folder is. A folder is added to, so
    one may be both.
    """
    taken = [(option, part, "reads") for option, path in _each(inputs) for part in _parts(path)]
    for option, path in _each(outputs):
        if path.is_dir() or (path.exists() and not path.is_file()):
            continue  # a device such as /dev/null loses nothing
        for other, file, what in taken:
            if _same(path, file):
                return f"{option}: {path} would be written over; it is the file that {other} {what}"
        taken.append((option, path, "writes"))
    return None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives an error of the system the name of the file that is written: that of a full disk has none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(path)) from error


def _each(named: Named) -> Iterator[tuple[str, Path]]:
    for option, found in named.items():
        for path in () if found is None else (found,) if isinstance(found, Path) else found:
            yield option, path


def _parts(path: Path) -> Iterator[Path]:
    """A file itself; of a folder the files of the bundles NAME/VERSION and NAME that it may be."""
    yield path
    if path.is_dir():
        for folder in (path, *(each for each in path.iterdir() if each.is_dir())):
            yield from (folder / name for name in _OF_A_BUNDLE)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one is not there yet
        return one.resolve() == other.resolve()
