"""Scores a corpus on a Ray cluster: Parquet or JSON lines in, a file for each part of them out.

    python deploy/ray/score.py --model models/ner-bilstm --output scored/ corpus/*.parquet
    python deploy/ray/score.py --model models/ner-bilstm --output scored/ --address ray://HOST:10001 corpus/*.jsonl

The inputs are cut into parts, and Ray Data hands the parts, not their rows, to a pool of actors; each actor holds one
engine, reads its part, scores it as `python -m service predict` does, and writes it under the part's own number, whole
or not at all. So every row is in the output exactly once, whoever dies: a part that was begun on a lost node is scored
again elsewhere, and a job that was stopped goes on with the same command. Files and model have to be reachable under
the same paths on every node. `--local` scores in this process, without Ray.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from service.cpus import usable_cpus
from service.errors import ServiceError
from service.model.bundle import MANIFEST, Manifest
from service.model.loading import Model
from service.scoring import repository
from service.scoring.rows import Row
from service.scoring.work import Options, cut, score

PLAN = "plan.json"
TOKEN_LIMIT = 4096
PART_ROWS = 10_000
"""Lines of a part: some seconds of work, so that little is lost with a node."""


class JobError(ServiceError):
    """The job cannot begin or go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Part:
    """A run of rows of one file: from byte `begin` on for JSON lines, the row group `begin` for Parquet."""

    number: int
    file: str
    begin: int
    first: int
    rows: int

    def output(self, folder: Path) -> Path:
        return folder / f"part-{self.number:06}{Path(self.file).suffix}"


@dataclass(frozen=True, slots=True)
class Job:
    """One job: the data to score, the model, and the place of the results."""

    model: str
    output: str
    column: str = "text"
    truncate: bool = False
    part_rows: int = PART_ROWS

    @property
    def folder(self) -> Path:
        return Path(self.output)

    def load(self) -> Model:
        path = Path(self.model)
        return repository.load(repository.find(path.parent, path.name), "cpu", TOKEN_LIMIT)


def plan(files: Sequence[str], part_rows: int) -> Iterator[Part]:
    """The inputs in parts, the same for the same files. Raises `JobError` for a file of another kind."""
    number = 0
    for file in files:
        first = 0
        for begin, rows in _cuts(file, part_rows):
            yield Part(number, file, begin, first, rows)
            number, first = number + 1, first + rows


def _cuts(file: str, part_rows: int) -> Iterator[tuple[int, int]]:
    if file.endswith(".parquet"):
        metadata = pq.ParquetFile(file).metadata
        yield from ((group, metadata.row_group(group).num_rows) for group in range(metadata.num_row_groups))
    elif file.endswith(".jsonl"):
        with Path(file).open("rb") as lines:
            begin = at = rows = 0
            for line in lines:
                at, rows = at + len(line), rows + 1
                if rows == part_rows:
                    yield begin, rows
                    begin, rows = at, 0
            if rows:
                yield begin, rows
    else:
        raise JobError(f"{file}: neither .parquet nor .jsonl")


def read(part: Part, column: str) -> Iterator[Row]:
    """The rows of a part; one that has no text in the column says why."""
    for number, value in enumerate(_values(part, column), part.first):
        if isinstance(value, str) and value:
            yield Row(part.file, number, value)
        else:
            yield Row(part.file, number, None, f"there is no text under {column!r}")


def _values(part: Part, column: str) -> Iterator[object]:
    if part.file.endswith(".parquet"):
        file = pq.ParquetFile(part.file)
        if column not in file.schema_arrow.names:
            raise JobError(f"{part.file} has no column {column!r}; it has {', '.join(file.schema_arrow.names)}")
        for batch in file.iter_batches(row_groups=[part.begin], columns=[column]):
            yield from batch.column(0).to_pylist()
        return
    with Path(part.file).open("rb") as lines:
        lines.seek(part.begin)
        for _ in range(part.rows):
            try:
                record = orjson.loads(lines.readline())
            except orjson.JSONDecodeError:
                record = None
            yield record.get(column) if isinstance(record, dict) else None


def work(model: Model, job: Job, part: Part, threads: int) -> dict[str, int]:
    """Score one part and put its file into place. How many rows and tokens it had, and how many were set aside."""
    options = Options(truncate=job.truncate, tokens=False, split=True, reduce=None, threads=threads)
    records, tokens, aside = [], 0, 0
    for done in score(model, cut(read(part, job.column)), options):
        tokens += done.tokens
        for row, outcome in done.rows:
            aside += isinstance(outcome, str)
            found = {"reason": outcome} if isinstance(outcome, str) else outcome
            records.append({"file": row.file, "row": row.number, **found})
    path = part.output(job.folder)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records, schema=schema(model.bundle.manifest)), draft)
    else:
        draft.write_bytes(b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records))
    draft.replace(path)
    return {"rows": len(records), "tokens": tokens, "aside": aside}


def schema(manifest: Manifest) -> pa.Schema:
    """The columns of a Parquet output: of a row that was set aside only file, row and reason are not null."""
    fields: list[tuple[str, pa.DataType]] = [("file", pa.string()), ("row", pa.int64())]
    if manifest.head == "tagger":
        places = [(name, pa.int64()) for name in ("start", "end", "token_start", "token_end")]
        entity = pa.struct([("label", pa.string()), ("text", pa.string()), ("score", pa.float64()), *places])
        fields.append(("entities", pa.list_(entity)))
    else:
        scores = pa.struct([(label, pa.float64()) for label in manifest.labels])
        fields += [("label", pa.string()), ("score", pa.float64()), ("scores", scores)]
    return pa.schema([*fields, ("truncated", pa.bool_()), ("reason", pa.string())])


class Scorer:
    """An actor of the pool: one engine, on one CPU."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._model = job.load()

    def __call__(self, part: dict[str, Any]) -> dict[str, Any]:
        values = (int(part["number"]), str(part["file"]), int(part["begin"]), int(part["first"]), int(part["rows"]))
        return work(self._model, self._job, Part(*values), threads=1)


def missing(job: Job, files: Sequence[str]) -> list[Part]:
    """The parts that have no output yet. Raises `JobError` where the output folder is of another job."""
    parts = list(plan(files, job.part_rows))
    path = Path(job.model)
    bundle = repository.find(path.parent, path.name)
    digest = hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()
    stats = {file: [os.stat(file).st_size, os.stat(file).st_mtime_ns] for file in files}  # noqa: PTH116 - a name, as given
    about = {**asdict(job), "files": stats, "manifest": digest, "parts": len(parts)}
    job.folder.mkdir(parents=True, exist_ok=True)
    file = job.folder / PLAN
    if file.exists() and (before := json.loads(file.read_text("utf-8"))) != about:
        changed = sorted(name for name in {*before, *about} if before.get(name) != about.get(name))
        raise JobError(f"{job.output} is of another job: {', '.join(changed)} differed. Name another folder.")
    file.write_text(json.dumps(about), "utf-8")
    return [part for part in parts if not part.output(job.folder).exists()]


def locally(job: Job, parts: Iterable[Part]) -> Iterator[dict[str, int]]:
    """Score parts in this process, on all of its CPUs."""
    model = job.load()
    for part in parts:
        yield work(model, job, part, usable_cpus())


def on_ray(job: Job, parts: Sequence[Part], address: str | None, actors: int | None) -> Iterator[dict[str, int]]:
    """Score parts on a cluster, by as many actors as it has CPUs, or as asked for."""
    import ray

    ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
    size = min(len(parts), actors or int(ray.cluster_resources().get("CPU", 1)))
    dataset = ray.data.from_items([asdict(part) for part in parts], override_num_blocks=len(parts))
    compute = ray.data.ActorPoolStrategy(size=size)
    scored = dataset.map(Scorer, fn_constructor_args=(job,), compute=compute, num_cpus=1)
    yield from scored.iter_rows()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="Parquet (.parquet) or JSON lines (.jsonl)")
    parser.add_argument("--model", required=True, help="a bundle's folder: models/NAME or models/NAME/VERSION")
    parser.add_argument("--output", required=True, help="folder for the scored parts")
    parser.add_argument("--column", default="text", help="column, or field, that holds the text [text]")
    parser.add_argument("--truncate", action="store_true", help="keep the head of a text over the token limit")
    parser.add_argument("--part-rows", type=int, default=PART_ROWS, help=f"lines of a part [{PART_ROWS}]")
    parser.add_argument("--address", help="Ray cluster; without it RAY_ADDRESS, else one on this machine")
    parser.add_argument("--actors", type=int, help="actors, one CPU each; without it one for each CPU")
    parser.add_argument("--local", action="store_true", help="score in this process, without Ray")
    given = parser.parse_args(arguments)
    paths = [str(Path(each).resolve()) for each in (given.model, given.output, *given.files)]
    job = Job(paths[0], paths[1], given.column, given.truncate, given.part_rows)
    try:
        parts = missing(job, paths[2:])
        started = time.perf_counter()
        work_on = locally(job, parts) if given.local else on_ray(job, parts, given.address, given.actors)
        done = list(work_on) if parts else []
        for draft in Path(job.output).glob(".part-*"):  # of a worker that was killed: all that still run are done
            draft.unlink()
    except (ServiceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    seconds = time.perf_counter() - started
    totals = {name: sum(int(each[name]) for each in done) for name in ("rows", "tokens", "aside")}
    print(json.dumps({"parts": len(done), **totals, "seconds": round(seconds, 2)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
