"""A whole run of `predict`: sources, model, work and output put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from service import telemetry
from service.bundle import MAX_TOKENS
from service.cpus import usable_cpus
from service.gates import Reduce
from service.model import ProviderSetting
from service.scoring import repository
from service.scoring.output import Form, Lines, Output, check_free, place
from service.scoring.progress import Progress
from service.scoring.rows import Format, Row, Source
from service.scoring.work import Options, score


@dataclass(frozen=True, slots=True)
class Batch:
    """What to score, with what, and where to. `reduce` None asks for no gates, `threads` 0 takes every CPU."""

    files: list[str]
    model: str
    models: Path = Path("models")
    kind: Format | None = None
    column: str = "text"
    output: Path | None = None
    form: Form = "jsonl"
    resume: bool = False
    truncate: bool = False
    tokens: bool = False
    split: bool = True
    reduce: Reduce | None = None
    threads: int = 0
    provider: ProviderSetting = "cpu"
    quiet: bool = False


def run(batch: Batch) -> int:
    """Score everything; how many rows were set aside. Raises `ServiceError`."""
    telemetry.configure("console", "error")
    if batch.output is not None and not batch.resume:
        check_free(batch.output)  # before the files are read for their digests
    sources = [Source(name, batch.kind, batch.column) for name in batch.files]
    # The service's own limit does not hold here: the model's does.
    model = repository.load(repository.find(batch.models, batch.model), batch.provider, MAX_TOKENS)
    about = {
        "model": model.name,
        "version": model.version,
        "weights": model.bundle.manifest.files,
        "files": batch.files,
        "format": [source.kind for source in sources],
        "digests": {source.name: source.digest() for source in sources} if batch.output else {},
        "column": batch.column,
        "form": batch.form,
        "truncate": batch.truncate,
        "tokens": batch.tokens,
        "split": batch.split,
        "gates": batch.reduce,
    }
    output = Output(batch.output, Lines(batch.form, model.bundle.manifest), about, resume=batch.resume)
    begin = place(batch.files, output.last) if output.last is not None else (0, 0)
    before = output.rejected
    options = Options(batch.truncate, batch.tokens, batch.split, batch.reduce, batch.threads or usable_cpus())
    try:
        rows = _rows(sources, begin)
        first = list(islice(rows, 1))  # what a resumed run passes over is read before time is taken
        progress = Progress(sources, passed=begin[0], quiet=batch.quiet)
        for done in score(model, chain(first, rows), options):
            output.write(done)
            progress.add(len(done.rows), done.tokens)
    finally:
        output.close()
    progress.finish(output.rejected - before, before)
    return output.rejected


def _rows(sources: Sequence[Source], begin: tuple[int, int]) -> Iterator[Row]:
    """All rows behind `begin`, a file's place and a row's number."""
    for number, source in enumerate(sources):
        if number < begin[0]:
            continue
        for row in source.rows():
            if (number, row.number) > begin:
                yield row
