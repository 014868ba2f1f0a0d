"""The limits of a bundle's manifest, checked on the material of a training before its first step."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from service.model.bundle import LIMITS, MANIFEST, MAX_LABELS, MAX_NAME, MAX_SCORES, LabelCounts, Task
from training.data.checks import Part
from training.data.corpora import CorpusError, names
from training.data.sources import cut
from training.errors import TrainingError
from training.nets.crf import CRF
from training.nets.networks import Network
from training.scoring.evaluate import corpus_name

_SCORES = 4
"""Scores of a corpus, of either task: see `training.scoring.evaluate.measure`."""
_REST = 1 << 16
"""Bytes that are left to the parts of a manifest which do not grow with the labels."""
_SCORE, _FORBIDDEN = 20, 3
"""Characters of a number of the CRF: a learned one, and the 0.0 of a step that is not allowed."""
_LINE = 10
"""Characters around it: the manifest has a line for each."""


def labels_fit(parts: Sequence[Part], task: Task) -> None:
    """Raises `CorpusError` for the first label that is too long for a model, or one too many."""
    seen: set[str] = set()
    labels: set[str] = set()
    column = "tags (--tag-column names another)" if task == "ner" else "labels (--label-column names another)"
    over: tuple[Path, int | None, str] | None = None
    for part in parts:
        for example in part.examples:
            for position, name in enumerate(names(example)):
                if name in seen:
                    continue
                seen.add(name)
                line = example.lines[position] if example.lines else None
                if len(name) > MAX_NAME:
                    has = f"the label {cut(name)!r} has {len(name):,} characters, a model's {MAX_NAME} at most"
                    raise CorpusError(part.path, f"{has}: is this the column of the {column}?", line)
                labels |= {"O", f"B-{name[2:]}", f"I-{name[2:]}"} - {"B-", "I-"} if task == "ner" else {name}
                if over is None and len(labels) > MAX_LABELS:
                    over = part.path, line, name
    if over is not None:
        path, line, name = over
        kinds = " (O, and B- and I- of each type)" if task == "ner" else ""
        has = f"with the label {cut(name)!r} there are more than the {MAX_LABELS:,} that a model can have, and "
        has += f"{len(labels):,} in all{kinds}"
        raise CorpusError(path, f"{has}: is this the column of the {column}?", line)


def files_fit(train: Sequence[Path], scored: Sequence[Path]) -> None:
    """Raises `CorpusError` for a file whose name no figure can have, and `TrainingError` for more files than a model
    keeps figures of."""
    for path in train:
        _named(path)
    names_fit(scored)
    if len(scored) > (most := MAX_SCORES // _SCORES):
        raise TrainingError(
            f"--dev, --test: {len(scored):,} files have {_SCORES * len(scored):,} scores, a model keeps {MAX_SCORES} "
            f"at most: give {most} files together, and score others with `training evaluate`"
        )


def names_fit(paths: Iterable[Path], types: Sequence[str] = ()) -> None:
    """Raises `CorpusError` for a file whose name no figure can have, or that figures could not tell from another.

    `types` are the entities that count.
    """
    known: dict[str, Path] = {}
    for path in paths:
        name = _named(path, types)
        if known.setdefault(name, path).resolve() != path.resolve():
            raise CorpusError(
                path, f"figures name it {name!r}, as they do {known[name]}: give it, or its folder, another name"
            )


def _named(path: Path, types: Sequence[str] = ()) -> str:
    """A file's name in figures. Raises `CorpusError` for one that is too long."""
    if len(name := corpus_name(path, types)) > MAX_NAME:
        by = "by its folder and file" + (" and by the types that count" if types else "")
        has = f"figures name it {by}, which have {len(name):,} characters together"
        raise CorpusError(path, f"{has}; {MAX_NAME} are the most: give one of them a shorter name")
    return name


def crf_bytes(crf: CRF) -> int:
    """Bytes of the scores of a trained CRF in a manifest, about."""
    allowed, pairs = int(crf.allowed.sum()), crf.allowed.numel()
    return allowed * (_SCORE + _LINE) + (pairs - allowed) * (_FORBIDDEN + _LINE)


def manifest_fits(network: Network, counts: Sequence[LabelCounts]) -> None:
    """Raises `TrainingError` for a network whose manifest would be larger than the service reads."""
    labels = network.architecture.labels
    listed = {"labels": labels, "origin": {"counts": [each.model_dump() for each in counts]}}
    size, most = len(json.dumps(listed, indent=2, ensure_ascii=False).encode()) + _REST, LIMITS[MANIFEST]
    about = f"the limit is {most:,}"
    if size > most:
        raise TrainingError(
            f"{len(labels):,} labels, with their counts in {len(counts):,} files, make a {MANIFEST} of about {size:,} "
            f"bytes, {about}: fewer or shorter labels, or fewer files, make it smaller"
        )
    if network.crf is None:
        return
    size += crf_bytes(network.crf)
    if size > most:
        raise TrainingError(
            f"--crf: the scores of a CRF for each pair of {len(labels):,} labels ({len(labels) // 2:,} entity types) "
            f"make a {MANIFEST} of about {size:,} bytes, {about}: --no-crf leaves them out, fewer types make it smaller"
        )
