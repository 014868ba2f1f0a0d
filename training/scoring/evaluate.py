"""Scores of a model on labelled data. Any function from inputs to logits can be scored."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from service.model.bundle import TOKENIZER, Bundle, Score, Task
from service.model.decoding import Classifier, Tagger, decoder
from service.model.engine import Engine, pad
from service.model.tokenizer import Encoded, Tokenizer
from training.data.batches import plan
from training.data.checks import with_tokens
from training.data.corpora import Example, check_labels, read
from training.data.sources import AS_FOUND, Layout, Tell, is_gzip, silent
from training.loop.fit import Mark
from training.nets.networks import Network
from training.scoring.calibration import calibration_error, error_by_chance, temperature
from training.scoring.metrics import (
    EntityScores,
    Scored,
    Span,
    accuracy,
    entity_scores,
    macro_f1,
    macro_recall,
    scores_of_spans,
    spans,
)

Predictor = Callable[[Sequence[NDArray[np.int32]]], NDArray[np.float32]]
"""Rows of a batch → logits [batch, labels], or [batch, time, labels]."""
_Seen = Callable[[Sequence[int], NDArray[np.float32]], None]
"""Gets the positions of a batch's inputs in their corpus, and their logits."""

HEADLINES: dict[Task, Literal["accuracy", "f1"]] = {"sentiment": "accuracy", "ner": "f1"}
_ROWS, _TOKENS = 64, 16_384


@dataclass(frozen=True, slots=True)
class Corpus:
    """Labelled data, encoded as the service encodes it, under the name by which figures refer to it."""

    name: str
    task: Task
    gold: list[str | tuple[str, ...]]
    encoded: list[Encoded]
    set_aside: int = 0
    """Rows of the file that are not among them: their texts hold no token."""
    types: tuple[str, ...] = ()
    """The entity types that count, in `gold` and in answers; () means all."""

    @property
    def truncated(self) -> int:
        return sum(each.truncated for each in self.encoded)


@dataclass(frozen=True, slots=True)
class Report:
    """Measurements: accuracy and macro-F1 of a classifier, or the entity scores of a tagger."""

    corpus: Corpus
    metrics: dict[str, float]
    entities: EntityScores | None = None
    by_chance: float | None = None
    """The calibration error that as many answers with perfectly right scores would have."""
    remark: str | None = None
    """A warning if the answers show that the model has not learned its task; else None."""

    @property
    def headline(self) -> float:
        """The figure that training watches: accuracy, or the entities' F1."""
        return self.metrics[HEADLINES[self.corpus.task]]

    def as_json(self, model: str, version: int, raw: Mapping[str, float | int] | None = None) -> str:
        """One line: model, version, data, inputs, cut, and the metrics; a tagger's also by type, and on `raw` text."""
        line: dict[str, object] = {"model": model, "version": str(version), "data": self.corpus.name}
        line |= {"inputs": len(self.corpus.gold), "truncated": self.corpus.truncated}
        line |= {"set_aside": self.corpus.set_aside, **self.metrics}
        if self.by_chance is not None:
            line["calibration_error_by_chance"] = self.by_chance
        if self.entities:
            line["types"] = {
                kind: {"precision": one.precision, "recall": one.recall, "f1": one.f1}
                for kind, one in self.entities.types.items()
            }
        if raw is not None:
            line["raw"] = dict(raw)
        return json.dumps(line)

    def scores(self) -> tuple[Score, ...]:
        """The same as the manifest keeps it."""
        values = {"examples": len(self.corpus.gold), "truncated": self.corpus.truncated}
        return tuple(
            Score.model_validate({"data": self.corpus.name, "metric": metric, "value": value, **values})
            for metric, value in self.metrics.items()
        )


def corpus(
    path: Path,
    task: Task,
    labels: Sequence[str],
    tokenizer: Tokenizer,
    limit: int,
    layout: Layout = AS_FOUND,
    tell: Tell = silent,
    owner: str = "the training data",
    types: Sequence[str] = (),
) -> Corpus:
    """Read labelled data for scoring; inputs over `limit` tokens are cut, as the service would with `truncate`.

    Rows without a token are set aside. `tell` gets a line on these, and on the choices of the reader. With `types`
    only entities of these count, and the name says so. Raises `CorpusError` for data that cannot be read, or with a
    label that the model does not have.
    """
    examples = read(path, task, layout, tell)
    kept = with_tokens(path, examples, tokenizer, tell)
    if types:
        kept = [of_types(example, types) for example in kept]
    check_labels(labels, kept, path, owner)
    name = corpus_name(path, types)
    return replace(corpus_of(name, kept, task, tokenizer, limit, types), set_aside=len(examples) - len(kept))


def corpus_of(
    name: str, examples: Sequence[Example], task: Task, tokenizer: Tokenizer, limit: int, types: Sequence[str] = ()
) -> Corpus:
    """Examples for scoring, under a name; texts without a token are left out. With `types` only entities of these
    count."""
    encoded, gold = [], []
    for example in [of_types(each, types) for each in examples] if types else examples:
        if isinstance(example.value, str) and not len(tokenizer.rows(example.value)):
            continue
        encoded.append(tokenizer.encode(example.value, limit, truncate=True))
        gold.append(example.label)
    return Corpus(name, task, gold, encoded, types=tuple(types))


def of_types(example: Example, types: Sequence[str]) -> Example:
    """A tagged sentence in which entities of other types are ``O``."""
    return replace(example, label=tuple(tag if tag[2:] in types else "O" for tag in example.label))


def corpus_name(path: Path, types: Sequence[str] = ()) -> str:
    """`…/sst2/dev.tsv` → ``sst2 dev``: how figures name the data they were measured on, and the entity types that
    counted."""
    stem = (path.with_suffix("") if is_gzip(path) else path).stem
    return f"{path.resolve().parent.name} {stem}" + (f" ({' '.join(types)})" if types else "")


def answers(
    predict: Predictor, corpus: Corpus, decode: Classifier | Tagger, seen: _Seen | None = None
) -> list[dict[str, object]]:
    """The answer to every input of a corpus, in order, with every token's label."""
    predictions: list[dict[str, object]] = [{}] * len(corpus.encoded)
    for positions in plan([len(each) for each in corpus.encoded], _ROWS, _TOKENS, None):
        inputs = [corpus.encoded[position] for position in positions]
        logits = predict([each.rows for each in inputs])
        if seen:
            seen(positions, logits)
        answers = decode.decode(logits, inputs, tokens=True)
        for position, answer in zip(positions, answers, strict=True):
            predictions[position] = _of_types(answer, corpus.types) if corpus.types else answer
    return predictions


def _of_types(answer: dict[str, object], types: Sequence[str]) -> dict[str, object]:
    """A tagger's answer without its entities of other types."""
    entities = [each for each in cast(list[dict[str, Any]], answer["entities"]) if each["label"] in types]
    tokens = cast(list[dict[str, Any]], answer["tokens"])
    tokens = [token if token["label"][2:] in types else token | {"label": "O"} for token in tokens]
    return answer | {"entities": entities, "tokens": tokens}


def measure(predict: Predictor, corpus: Corpus, decode: Classifier | Tagger, seen: _Seen | None = None) -> Report:
    """Predict every input of a corpus and score the answers."""
    predictions = answers(predict, corpus, decode, seen)
    if corpus.task == "sentiment":
        gold = cast(list[str], corpus.gold)
        guesses = [str(answer["label"]) for answer in predictions]
        confidence = [cast(float, answer["score"]) for answer in predictions]
        metrics = {
            "accuracy": accuracy(gold, guesses),
            "macro_f1": macro_f1(gold, guesses),
            "macro_recall": macro_recall(gold, guesses),
            "calibration_error": calibration_error(confidence, [g == p for g, p in zip(gold, guesses, strict=True)]),
        }
        return Report(corpus, metrics, None, error_by_chance(confidence), _one_answer(corpus.name, gold, guesses))
    pairs = zip(predictions, corpus.gold, strict=True)
    found = entity_scores(corpus.gold, [tags_of(answer, len(tags)) for answer, tags in pairs])
    scored = scored_entities(predictions, corpus.gold)
    metrics = {"precision": found.precision, "recall": found.recall, "f1": found.f1}
    by_chance = None
    if scored:
        confidence = [each.score for each in scored]
        metrics["calibration_error"] = calibration_error(confidence, [each.right for each in scored])
        by_chance = error_by_chance(confidence)
    return Report(corpus, metrics, found, by_chance, _no_entity(corpus, len(scored)))


def _one_answer(name: str, gold: Sequence[str], guesses: Sequence[str]) -> str | None:
    """A warning for a classifier that gives one answer to different labels."""
    if len(set(guesses)) > 1 or len(set(gold)) < 2:
        return None
    share = gold.count(guesses[0]) / len(gold)
    return f"{name}: all {len(gold):,} answers are {guesses[0]!r}, which {share:.1%} of the rows have as their label"


def _no_entity(corpus: Corpus, found: int) -> str | None:
    """A warning for a tagger that finds none of the entities, or for data without entities."""
    entities = sum(len(spans(tags)) for tags in corpus.gold)
    if not entities:
        return f"{corpus.name}: no entity in {len(corpus.gold):,} sentences: F1 is 0 whatever the model says"
    return None if found else f"{corpus.name}: no entity is found, and there are {entities:,}"


def scored_entities(
    predictions: Sequence[dict[str, object]], gold: Sequence[str | tuple[str, ...]]
) -> tuple[Scored, ...]:
    """Every predicted entity; it is right if its exact tokens and label are."""
    found = []
    for answer, tags in zip(predictions, gold, strict=True):
        there = set(spans(tags))
        for entity in cast(list[dict[str, Any]], answer["entities"]):
            right = (entity["label"], entity["token_start"], entity["token_end"]) in there
            found.append(Scored(entity["label"], entity["score"], right))
    return tuple(found)


def tags_of(answer: dict[str, object], length: int) -> list[str]:
    """The tags of one answer; the tail that was cut off counts as outside every entity."""
    tags = [token["label"] for token in cast(list[dict[str, str]], answer["tokens"])]
    return tags + ["O"] * (length - len(tags))


def of_network(network: Network, device: torch.device) -> Predictor:
    """A network in torch as a predictor, in evaluation mode."""

    def predict(rows: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        network.eval()
        tokens, lengths = pad(rows)
        with torch.inference_mode():
            logits = network(torch.from_numpy(tokens).to(device), torch.from_numpy(lengths.astype(np.int64)).to(device))
        answer: NDArray[np.float32] = logits.cpu().numpy()
        return answer

    return predict


class Subject:
    """A bundle as it is scored: with its tokenizer and its decoder, through the runtime that serves it."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.manifest = bundle, bundle.manifest
        self.name = f"{bundle.name} version {bundle.version}"

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self.bundle.file(TOKENIZER), self.manifest.features)

    @cached_property
    def engine(self) -> Engine:
        return Engine(self.bundle)

    @cached_property
    def decoder(self) -> Classifier | Tagger:
        return decoder(self.manifest.task, self.manifest.labels, self.manifest.crf)

    def read(self, data: Path, layout: Layout = AS_FOUND, tell: Tell = silent, types: Sequence[str] = ()) -> Corpus:
        """Read labelled data: see `corpus`. Raises `UnknownLabel` for labels that it has not."""
        task, labels, limit = self.manifest.task, self.manifest.labels, self.manifest.token_limit
        return corpus(data, task, labels, self.tokenizer, limit, layout, tell, self.name, types)

    def corpus(self, name: str, examples: Sequence[Example], types: Sequence[str] = ()) -> Corpus:
        """Examples for scoring, under a name: see `corpus_of`."""
        return corpus_of(name, examples, self.manifest.task, self.tokenizer, self.manifest.token_limit, types)

    def answers(self, found: Corpus, seen: _Seen | None = None) -> list[dict[str, object]]:
        """The answer to every input: see `answers`."""
        return answers(self.engine.predict, found, self.decoder, seen)

    def measure(self, found: Corpus) -> Report:
        """Score the answers."""
        return measure(self.engine.predict, found, self.decoder)


def decoder_of(network: Network) -> Classifier | Tagger:
    """A decoder of the network's logits, with the current scores of its CRF."""
    architecture = network.architecture
    return decoder(
        architecture.task, architecture.labels, network.crf.as_manifest() if network.crf is not None else None
    )


def _loss(network: Network, logits: NDArray[np.float32], targets: Sequence[Sequence[int]], by: float) -> float:
    """The negative log-likelihood of a batch's targets, with everything that is added up divided by a temperature."""
    device = next(network.parameters()).device
    ends = [len(row) for row in targets]
    padded = np.zeros((len(targets), max(ends)), np.int64)
    for place, row, end in zip(padded, targets, ends, strict=True):
        place[:end] = row
    lengths, wanted = torch.tensor(ends, device=device), torch.from_numpy(padded).to(device)
    scores = torch.from_numpy(logits).to(device) / by
    with torch.inference_mode():
        if network.crf is not None:
            return float(network.crf.loss(scores, wanted, lengths, by)) * int(lengths.sum())
        logs = scores.log_softmax(-1).reshape(len(targets), -1, scores.shape[-1])
        chosen = logs.gather(2, wanted[..., None])[..., 0]
        return -float((chosen * (torch.arange(chosen.shape[1], device=device) < lengths[:, None])).sum())


def best_temperature(network: Network, corpora: Sequence[Corpus]) -> float:
    """The temperature that makes the gold labels of corpora most likely, each corpus counting the same.

    Under a CRF the labels of a whole text together.
    """
    predict = of_network(network, next(network.parameters()).device)
    number = {label: row for row, label in enumerate(network.architecture.labels)}
    batches: list[tuple[NDArray[np.float32], list[list[int]], float]] = []
    for each in corpora:
        for positions in plan([len(row) for row in each.encoded], _ROWS, _TOKENS, None):
            inputs = [each.encoded[position] for position in positions]
            targets = [_numbers(each.gold[position], number, len(each.encoded[position])) for position in positions]
            weight = len(positions) / len(each.encoded) / sum(map(len, targets))
            batches.append((predict([row.rows for row in inputs]), targets, weight))

    def loss(by: float) -> float:
        return sum(weight * _loss(network, logits, targets, by) for logits, targets, weight in batches)

    return temperature(loss)


def mark(network: Network, corpora: Sequence[Corpus], device: torch.device) -> Mark:
    """The headline figure and the loss of a target, the mean over corpora. Raises `ValueError` for answers that are no
    numbers.

    The figure is that of `measure`, whose other figures, answers and confidences take several times as long.
    """
    predict, decode = of_network(network, device), decoder_of(network)
    number = {label: row for row, label in enumerate(network.architecture.labels)}
    scores, losses = [], []
    for each in corpora:
        guesses: list[str | list[Span]] = [""] * len(each.encoded)
        total, count = 0.0, 0
        for positions in plan([len(row) for row in each.encoded], _ROWS, _TOKENS, None):
            inputs = [each.encoded[position] for position in positions]
            logits = predict([row.rows for row in inputs])
            targets = [_numbers(each.gold[at], number, len(each.encoded[at])) for at in positions]
            total += _loss(network, logits, targets, 1.0)
            count += sum(map(len, targets))
            for position, guess in zip(positions, _guesses(decode, logits, inputs), strict=True):
                guesses[position] = guess
        scores.append(_headline(each, guesses))
        losses.append(total / count)
    return Mark(float(np.mean(scores)), float(np.mean(losses)))


def _guesses(
    decode: Classifier | Tagger, logits: NDArray[np.float32], inputs: Sequence[Encoded]
) -> Sequence[str | list[Span]]:
    """Each text's label, or the entities of each row."""
    if isinstance(decode, Tagger):
        return decode.spans(logits, [len(each) for each in inputs])
    return [str(answer["label"]) for answer in decode.decode(logits, inputs)]


def _headline(corpus: Corpus, guesses: Sequence[str | list[Span]]) -> float:
    """The headline figure of a corpus's guesses."""
    if corpus.task == "sentiment":
        return accuracy(cast(list[str], corpus.gold), cast(list[str], guesses))
    return scores_of_spans([spans(tags) for tags in corpus.gold], cast(list[list[Span]], guesses)).f1


def guess(corpus: Corpus) -> float:
    """The headline figure of an answer that looks at no input: always the commonest label, or no entity."""
    if corpus.task == "ner":
        return 0.0
    return Counter(corpus.gold).most_common(1)[0][1] / len(corpus.gold)


def guess_score(corpus: Corpus) -> Score:
    """The same as the manifest keeps it."""
    report = Report(corpus, {HEADLINES[corpus.task]: guess(corpus)})
    return report.scores()[0]


def _numbers(gold: str | tuple[str, ...], number: Mapping[str, int], tokens: int) -> list[int]:
    """The labels of one input by number: one, or one for each token that was not cut off."""
    return [number[gold]] if isinstance(gold, str) else [number[tag] for tag in gold[:tokens]]


def of_bundle(bundle: Bundle, data: Path, layout: Layout = AS_FOUND, tell: Tell = silent) -> Report:
    """Score a bundle on a file. Raises `UnknownLabel` for labels that it has not."""
    subject = Subject(bundle)
    return subject.measure(subject.read(data, layout, tell))
