"""Single units: where in a file each is most active, what is lost without it, and where chosen units do the same.

Places name lines of the file and numbers of tokens, never texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from service.model.bundle import WEIGHTS
from service.model.decoding import Tagger, log_softmax
from service.model.engine import GateKey
from service.model.equations import Direction
from service.model.interventions import Setting, run
from service.model.unit_cards import Cards, LayerCards, Place, keys
from training.data.batches import plan
from training.data.checks import with_tokens
from training.data.corpora import Example, check_labels, read
from training.data.sources import AS_FOUND, Layout, Tell, silent
from training.scoring.evaluate import HEADLINES, Corpus, Subject, corpus_name, measure

_ROWS, _TOKENS = 64, 4_096
_DECIMALS = 3
"""Decimals of the states at the places."""
_COSTS = 5
"""Decimals of what is lost."""
Array = NDArray[np.float64]
Rows = Sequence[NDArray[np.int32]]


@dataclass(frozen=True, slots=True)
class Texts:
    """A data file: its inputs as they are encoded, its SHA-256, and the examples that they were made from."""

    corpus: Corpus
    examples: Sequence[Example]
    sha256: str

    @classmethod
    def read(cls, subject: Subject, path: Path, layout: Layout = AS_FOUND, tell: Tell = silent) -> Texts:
        """Read a file of labelled data. Raises `CorpusError`."""
        manifest = subject.manifest
        examples = with_tokens(path, read(path, manifest.task, layout, tell), subject.tokenizer, tell)
        check_labels(manifest.labels, examples, path, subject.name)
        corpus = subject.corpus(corpus_name(path), examples)
        return cls(corpus, examples, hashlib.sha256(path.read_bytes()).hexdigest())

    def line(self, number: int, token: int) -> int:
        """The line of a token of an input: its own, or that of the row that holds the text."""
        lines = self.examples[number].lines
        return lines[token] if len(lines) > 1 else lines[0]

    def tokens(self, number: int) -> list[str]:
        """The tokens of an input."""
        source = self.corpus.encoded[number]
        return [source.text[start:end] for start, end in source.spans]


# Cards


def cards(
    subject: Subject, texts: Texts, places: int, most: int, seed: int, done: Callable[[int], None] = lambda _: None
) -> Cards:
    """The cards of all units: `places` of the file for each, and what is lost without it over `most` of the inputs.

    `done` is called after each unit, with the number of those that are done.
    """
    manifest = subject.manifest
    sample = _sample(texts.corpus, most, seed)
    whole, answers = _scored(subject, sample, None)
    found, count = [], 0
    active = _active(subject, [source.rows for source in texts.corpus.encoded], places)
    for layer, direction in keys(manifest):
        cost, lost, changed, effects = [], [], [], []
        for unit in range(manifest.hidden):
            score, others = _scored(subject, sample, Setting(layer, direction, "hidden", 0.0, (unit,)))
            cost.append(round(whole - score, _COSTS))
            lost.append(round(float((answers.chances - others.chances_of(answers.labels)).mean()), _COSTS))
            changed.append(round(float(np.mean(others.labels != answers.labels)), _COSTS))
            effects.append([round(float(each), _COSTS) for each in (others.logits - answers.logits).mean(axis=0)])
            done(count := count + 1)
        found.append(
            LayerCards(
                layer=layer,
                direction=direction,
                places=tuple(tuple(_place(texts, *each) for each in rows) for rows in active[layer, direction]),
                cost=tuple(cost),
                lost=tuple(lost),
                changed=tuple(changed),
                effects=None if layer == manifest.layers - 1 else tuple(map(tuple, effects)),
            )
        )
    return Cards(
        data=texts.corpus.name,
        sha256=texts.sha256,
        weights=manifest.files[WEIGHTS],
        inputs=len(texts.corpus.encoded),
        ablated=len(sample.encoded),
        seed=seed,
        metric=HEADLINES[manifest.task],
        score=round(whole, _COSTS),
        layers=tuple(found),
    )


def _place(texts: Texts, number: int, token: int, value: float) -> Place:
    return texts.line(number, token), token, round(value, _DECIMALS)


def _sample(corpus: Corpus, most: int, seed: int) -> Corpus:
    """A random sample of at most `most` inputs."""
    picked = np.sort(np.random.default_rng(seed).permutation(len(corpus.encoded))[:most]).tolist()
    gold, encoded = ([each[number] for number in picked] for each in (corpus.gold, corpus.encoded))
    return replace(corpus, gold=gold, encoded=encoded)


@dataclass(frozen=True, slots=True)
class _Answers:
    """Label numbers and logits of all answers, texts or a tagger's tokens: [answers] and [answers, labels]."""

    labels: NDArray[np.intp]
    logits: Array

    def chances_of(self, labels: NDArray[np.intp]) -> Array:
        """The probability [answers] of a label of each answer, by the softmax of the logits."""
        found: Array = np.exp(log_softmax(self.logits))[np.arange(len(labels)), labels]
        return found

    @property
    def chances(self) -> Array:
        return self.chances_of(self.labels)


def _scored(subject: Subject, sample: Corpus, held: Setting | None) -> tuple[float, _Answers]:
    """The headline figure over a sample with a setting, and the answers."""
    network, decode = subject.engine.network, subject.decoder
    labels: list[list[int]] = [[]] * len(sample.encoded)
    logits: list[Array] = [np.empty(0)] * len(sample.encoded)
    settings = () if held is None else (held,)

    def predict(rows: Rows) -> NDArray[np.float32]:
        return run(network, rows, [settings] * len(rows)).logits

    def seen(positions: Sequence[int], answers: NDArray[np.float32]) -> None:
        for position, answer in zip(positions, answers, strict=True):
            own = answer[: len(sample.encoded[position])] if isinstance(decode, Tagger) else answer[None]
            logits[position] = own.astype(np.float64)
            labels[position] = decode.path(own) if isinstance(decode, Tagger) else [int(answer.argmax())]

    report = measure(predict, sample, decode, seen)
    return report.headline, _Answers(np.concatenate([*map(np.array, labels)]), np.concatenate(logits))


def _active(
    subject: Subject, rows: Rows, places: int
) -> Mapping[tuple[int, Direction], list[list[tuple[int, int, float]]]]:
    """By layer and direction, for each unit the inputs in which its hidden state is farthest from 0, the farthest
    first: (input, token, state). Among equals the first input, and in it the first token."""
    wanted = keys(subject.manifest)
    units = subject.manifest.hidden
    tokens = {key: np.zeros((len(rows), units), np.intp) for key in wanted}
    values = {key: np.zeros((len(rows), units)) for key in wanted}
    for number, gates in _traced(subject, rows, [(layer, direction, "hidden") for layer, direction in wanted]):
        for (layer, direction, _), states in gates.items():
            at = np.abs(states).argmax(axis=0)
            tokens[layer, direction][number] = at
            values[layer, direction][number] = states[at, np.arange(units)]
    found = {}
    for key in wanted:
        order = np.argsort(-np.abs(values[key]), axis=0, kind="stable")[:places]  # [places, units]
        found[key] = [
            [(number, int(tokens[key][number, unit]), float(values[key][number, unit])) for number in order[:, unit]]
            for unit in range(units)
        ]
    return found


def _traced(
    subject: Subject, rows: Rows, wanted: Sequence[GateKey]
) -> Iterator[tuple[int, dict[GateKey, NDArray[np.float32]]]]:
    """Every input's number and its activations [tokens, units] of the wanted gates; short inputs first."""
    for group in plan([len(row) for row in rows], _ROWS, _TOKENS, None):
        trace = subject.engine.trace([rows[number] for number in group])
        for place, number in enumerate(group):
            yield number, {key: trace.gate(key, place) for key in wanted}


# Finding again


@dataclass(frozen=True, slots=True)
class Match:
    """A place of a file: its line, the number of its first token in the input, the input's number, and how far the
    units are from what was looked for: the root of the mean square of the differences."""

    line: int
    token: int
    input: int
    distance: float


def activations(subject: Subject, row: NDArray[np.int32], key: GateKey) -> NDArray[np.float32]:
    """One gate of an input [tokens, units]."""
    return np.array(subject.engine.trace([row]).gate(key, 0))


def find(
    subject: Subject, texts: Texts, key: GateKey, pattern: NDArray[np.float32], units: Sequence[int], most: int
) -> list[Match]:
    """The places where `units` of a gate are most like `pattern` [tokens, those units], nearest first; one an input.

    After LSTMVis (Strobelt et al. 2016, arXiv:1606.07461), which counts units over a threshold; here values are
    compared.
    """
    span = len(pattern)
    wanted = pattern.astype(np.float64)
    found = []
    for number, gates in _traced(subject, [source.rows for source in texts.corpus.encoded], [key]):
        states = gates[key][:, list(units)].astype(np.float64)
        if len(states) < span:
            continue
        windows = sliding_window_view(states, span, axis=0)  # [places, units, span]
        distances = np.sqrt(((windows - wanted.T) ** 2).mean(axis=(1, 2)))
        at = int(distances.argmin())
        found.append(Match(texts.line(number, at), at, number, float(distances[at])))
    return sorted(found, key=lambda match: (match.distance, match.input))[:most]
