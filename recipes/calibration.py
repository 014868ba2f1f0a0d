"""Would a temperature that depends on a text's length calibrate a model better than one for all texts?

    python -m recipes.calibration $DATA models/sentiment-bilstm --fit "sst2 dev" --fit "imdb dev"

For a classifier, each form of temperature is fitted on every second text of the sets that `--fit` names (all sets if
none is), and measured on the texts between these, then the other way round. `as shipped` is the bundle as it is. The
forms divide the logits by

* ``one``: a constant;
* ``power``: exp(a) (n / 20) ** b for n tokens;
* ``two``: one constant up to 16 tokens, another from 128 on, and a blend by log n between.

For a tagger, the table shows the mean score of entities less the share that is right, by the length of the sentence. If
length decided, the bands would agree over the sets. (Temperature: Guo et al. 2017, arXiv:1706.04599.)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from recipes.domains import COMMON, files
from service.model.bundle import Bundle
from service.model.decoding import log_softmax
from training.data.corpora import read
from training.export.restore import opened
from training.scoring.calibration import calibration_error, error_by_chance
from training.scoring.evaluate import Corpus, Subject, corpus_name, scored_entities

Floats = NDArray[np.float64]
SHORT, LONG = 16, 128
"""Tokens: between these `two` blends its temperatures."""
BANDS = ((1, 10), (10, 20), (20, 40), (40, 1 << 30))
"""Lengths of sentences, from and below."""
_FEWEST = 30
"""Entities of a band that is shown."""
_STEP, _SMALLEST = 0.25, 1e-3


@dataclass(frozen=True, slots=True)
class Texts:
    """The logits of a classifier on a set [N, L], its lengths in tokens [N], and the numbers of the labels [N]."""

    logits: Floats
    lengths: Floats
    gold: NDArray[np.intp]

    def half(self, which: int) -> Texts:
        """Every second text, from the first one (0) or the second one (1) on."""
        return Texts(self.logits[which::2], self.lengths[which::2], self.gold[which::2])


Form = Callable[[Floats, Floats], Floats]
"""Parameters and lengths [N] to temperatures [N]."""


def _one(parameters: Floats, lengths: Floats) -> Floats:
    return np.full(len(lengths), np.exp(parameters[0]))


def _power(parameters: Floats, lengths: Floats) -> Floats:
    found: Floats = np.exp(parameters[0] + parameters[1] * np.log(lengths / 20))
    return found


def _two(parameters: Floats, lengths: Floats) -> Floats:
    share = np.clip(np.log(lengths / SHORT) / np.log(LONG / SHORT), 0, 1)
    found: Floats = np.exp(parameters[0] * (1 - share) + parameters[1] * share)
    return found


FORMS: Mapping[str, tuple[Form, int]] = {"one": (_one, 1), "power": (_power, 2), "two": (_two, 2)}
"""The forms that are fitted, with their numbers of parameters. With parameters of 0 the temperature is 1."""


def loss(form: Form, parameters: Floats, sets: Sequence[Texts]) -> float:
    """The negative log-likelihood of the labels, each set counting the same."""
    found = []
    for each in sets:
        logs = log_softmax(each.logits / form(parameters, each.lengths)[:, None])
        found.append(-float(logs[np.arange(len(logs)), each.gold].mean()))
    return mean(found)


def fitted(form: Form, count: int, sets: Sequence[Texts]) -> Floats:
    """The parameters with the lowest loss, by a pattern search from 0 (Hooke and Jeeves 1961)."""
    at, step = np.zeros(count), _STEP
    best = loss(form, at, sets)
    while step > _SMALLEST:
        moves = [at + sign * step * axis for axis in np.eye(count) for sign in (1, -1)]
        losses = [loss(form, move, sets) for move in moves]
        lowest = int(np.argmin(losses))
        if losses[lowest] < best:
            at, best = moves[lowest], losses[lowest]
        else:
            step /= 2
    return at


def compared(sets: Mapping[str, Texts], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """By set: the calibration error as shipped, of each form on the texts that it was not fitted on, and by chance."""
    scores: dict[str, dict[str, list[Floats]]] = {name: {} for name in sets}
    right: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in sets}
    for which in (0, 1):
        taught = [sets[name].half(which) for name in names]
        parameters = {name: fitted(form, count, taught) for name, (form, count) in FORMS.items()}
        for name, each in sets.items():
            rest = each.half(1 - which)
            right[name].append(rest.logits.argmax(axis=1) == rest.gold)
            divided = {"as shipped": rest.logits}
            for form_name, (form, _) in FORMS.items():
                divided[form_name] = rest.logits / form(parameters[form_name], rest.lengths)[:, None]
            for column, logits in divided.items():
                scores[name].setdefault(column, []).append(np.exp(log_softmax(logits)).max(axis=1))
    found = {}
    for name in sets:
        joined = {column: np.concatenate(parts) for column, parts in scores[name].items()}
        hits = np.concatenate(right[name])
        found[name] = {column: calibration_error(list(part), hits) for column, part in joined.items()}
        found[name]["by chance"] = error_by_chance(list(joined["as shipped"]))
    return found


def gaps(answered: Sequence[dict[str, object]], corpus: Corpus) -> list[float | None]:
    """The mean score of entities less the share that is right, for each of `BANDS`; None for few entities."""
    found: list[float | None] = []
    for low, high in BANDS:
        chosen = [at for at, each in enumerate(corpus.encoded) if low <= len(each) < high]
        scored = scored_entities([answered[at] for at in chosen], [corpus.gold[at] for at in chosen])
        kept = [each for each in scored if each.kind in COMMON]
        found.append(mean(each.score - each.right for each in kept) if len(kept) >= _FEWEST else None)
    return found


def corpora(subject: Subject, data: Path) -> Iterator[Corpus]:
    """The dev sets whose labels a bundle has."""
    manifest = subject.manifest
    for path in files(data, manifest.task):
        examples = read(path, manifest.task)
        if manifest.task == "ner" or {each.label for each in examples} == set(manifest.labels):
            yield subject.corpus(corpus_name(path), examples)


def texts(subject: Subject, corpus: Corpus) -> Texts:
    """A classifier's answers for a set, through the runtime that serves it."""
    labels = subject.manifest.labels
    logits = np.zeros((len(corpus.gold), len(labels)))

    def seen(positions: Sequence[int], found: NDArray[np.float32]) -> None:
        logits[list(positions)] = found

    subject.answers(corpus, seen)
    gold = np.array([labels.index(str(label)) for label in corpus.gold], np.intp)
    return Texts(logits, np.array([len(each) for each in corpus.encoded], np.float64), gold)


def table(bundle: Bundle, data: Path, names: Sequence[str]) -> Iterator[str]:
    """Markdown, figures in percent. Raises `ValueError` for a name in `names` that no set has."""
    subject = Subject(bundle)
    sets = list(corpora(subject, data))
    if unknown := sorted({*names} - {each.name for each in sets}):
        raise ValueError(f"{unknown[0]!r} is none of the sets: {', '.join(each.name for each in sets)}")
    manifest = bundle.manifest
    if manifest.task == "ner":
        heads = ["", *(f"{low} tokens or more" for low, _ in BANDS)]
        yield from (f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}")
        for each in sets:
            row = gaps(subject.answers(each), each)
            yield f"| {each.name} | {' | '.join('' if gap is None else f'{100 * gap:+.1f}' for gap in row)} |"
        return
    found = compared({each.name: texts(subject, each) for each in sets}, names or [each.name for each in sets])
    columns = ("as shipped", *FORMS, "by chance")
    yield from (f"| data | {' | '.join(columns)} |", f"|{' --- |' * (len(columns) + 1)}")
    for name, figures in found.items():
        yield f"| {name} | {' | '.join(f'{100 * figures[column]:.1f}' for column in columns)} |"
    means = (100 * mean(figures[column] for figures in found.values()) for column in columns)
    yield f"| mean | {' | '.join(f'{each:.1f}' for each in means)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare one temperature with temperatures by length.")
    parser.add_argument("data", type=Path, help="the folder that holds sentiment/ and ner/")
    parser.add_argument("model", type=Path, help="models/NAME, or models/NAME/VERSION")
    parser.add_argument("--fit", action="append", default=[], help='a set to fit on, such as "sst2 dev"; default: all')
    asked = parser.parse_args()
    try:
        for line in table(opened(asked.model), asked.data, asked.fit):
            print(line, flush=True)
    except ValueError as error:
        parser.error(f"--fit: {error}")


if __name__ == "__main__":
    main()
