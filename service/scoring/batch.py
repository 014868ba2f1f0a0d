"""A whole run of `predict`: sources, model, work and output put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service import telemetry
from service.bundle import MAX_TOKENS
from service.cpus import usable_cpus
from service.gates import Reduce
from service.model import ProviderSetting
from service.scoring import repository
from service.scoring.output import Form, Key, Lines, Output, place
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
    reduce: Reduce | None = None
    threads: int = 0
    provider: ProviderSetting = "cpu"
    quiet: bool = False


def run(batch: Batch) -> int:
    """Score everything; how many rows were set aside. Raises `ServiceError`."""
    telemetry.configure("console", "error")
    sources = [Source(name, batch.kind, batch.column) for name in batch.files]
    # The service's own limit does not hold here: the model's does.
    model = repository.load(repository.find(batch.models, batch.model), batch.provider, MAX_TOKENS)
    about = {
        "model": model.name,
        "version": model.version,
        "weights": model.bundle.manifest.files,
        "files": batch.files,
        "column": batch.column,
        "form": batch.form,
        "truncate": batch.truncate,
        "tokens": batch.tokens,
        "gates": batch.reduce,
    }
    output = Output(batch.output, Lines(batch.form, model.bundle.manifest), about, resume=batch.resume)
    progress = Progress(sources, quiet=batch.quiet)
    options = Options(batch.truncate, batch.tokens, batch.reduce, batch.threads or usable_cpus())
    try:
        for done in score(model, _rows(sources, batch.files, output.last), options):
            output.write(done)
            progress.add(len(done.rows), done.tokens)
    finally:
        output.close()
    progress.finish(output.rejected)
    return output.rejected


def _rows(sources: Sequence[Source], files: Sequence[str], last: Key | None) -> Iterator[Row]:
    """All rows, from the one behind `last` on."""
    begin = place(files, last) if last is not None else (0, 0)
    for number, source in enumerate(sources):
        if number < begin[0]:
            continue
        for row in source.rows():
            if (number, row.number) > begin:
                yield row
