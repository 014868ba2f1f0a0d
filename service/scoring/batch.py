"""A whole run of `predict`: sources, model, work and output put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from service.model.bundle import CARD, MAX_TOKENS, UNITS
from service.model.loading import ProviderSetting
from service.observability import logs
from service.scoring import repository
from service.scoring.output import Form, Lines, Output, check_free, place
from service.scoring.progress import Progress
from service.scoring.rows import Format, Row, Source
from service.scoring.work import Done, Options, cut, score


@dataclass(frozen=True, slots=True)
class ScoringRun(Options):
    """Files, model and output of a scoring run: the options of ``predict``, which has their defaults."""

    files: list[str]
    model: str
    models: Path
    kind: Format | None
    column: str
    keep: tuple[str, ...]
    output: Path | None
    form: Form
    resume: bool
    provider: ProviderSetting
    quiet: bool


def run(batch: ScoringRun) -> int:
    """Score everything; how many rows were set aside. Raises `ServiceError`."""
    logs.configure("console", "error")
    if batch.output is not None and not batch.resume:
        check_free(batch.output, batch.files)  # before the files are read for their digests
    sources = [Source(name, batch.kind, batch.column, batch.keep) for name in batch.files]
    # The service's own limit does not hold here: the model's does.
    model = repository.load(repository.find(batch.models, batch.model), batch.provider, MAX_TOKENS)
    about = {
        "model": model.name,
        "version": model.version,
        # Cards do not change an answer.
        "weights": {name: each for name, each in model.bundle.manifest.files.items() if name not in (CARD, UNITS)},
        "files": batch.files,
        "format": [source.kind for source in sources],
        "digests": {source.name: source.digest() for source in sources} if batch.output else {},
        "column": batch.column,
        "keep": list(batch.keep),
        "form": batch.form,
        "truncate": batch.truncate,
        "tokens": batch.tokens,
        "split": batch.split,
        "gates": batch.reduce,
    }
    output = Output(batch.output, Lines(batch.form, model.bundle.manifest, batch.keep), about, resume=batch.resume)
    last = place(batch.files, output.last) if output.last is not None else (0, 0)
    before = output.rejected

    def fresh(row: Row) -> bool:
        """False for the rows that an earlier run wrote."""
        return place(batch.files, (row.file, row.number)) > last

    try:
        progress = Progress({source.name: source.size for source in sources}, quiet=batch.quiet)
        windows = cut(chain.from_iterable(source.rows() for source in sources))
        # Skip the rows of an earlier run. Score the window in which it stopped again, so that its
        # rows run in the same batches; its rows that are written already are left out.
        for done in score(model, _passing(windows, fresh, progress), batch):
            rows = [each for each in done.rows if fresh(each[0])]
            output.write(Done(rows, done.tokens))
            progress.add(len(rows), done.tokens, done.rows[-1][0])
    finally:
        output.close()
    progress.finish(output.rejected - before, before)
    return output.rejected


def _passing(windows: Iterator[list[Row]], fresh: Callable[[Row], bool], progress: Progress) -> Iterator[list[Row]]:
    for window in windows:
        if fresh(window[-1]):
            yield window
        else:
            progress.passed(window[-1])
