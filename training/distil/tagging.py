"""Self-training of taggers: several trained taggers label text together, and another one learns from it.

Each tagger gives every token a probability for each label, the marginal one of its conditional random field. Their
mean decides, as the most probable legal sequence. A sentence is kept if the least sure of its tokens is sure enough.
Sentences without a name are kept in part, for most teach nothing new. (Pseudo-labels: Lee 2013, workshop on challenges
in representation learning; ensembles as teachers of one network: Hinton, Vinyals and Dean 2015, arXiv:1503.02531.)
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from service.model.bundle import TOKENIZER, Bundle
from service.model.decoding import Tagger
from service.model.engine import Engine
from service.model.sentences import sentences
from service.model.tokenizer import Tokenizer
from training.data.batches import plan
from training.data.corpora import CorpusError
from training.data.sources import Tell, few, silent
from training.distil.mixture import NO_KEY, key
from training.distil.output import Output
from training.errors import TrainingError
from training.nets.crf import CRF

_AT_ONCE = 4096
"""Sentences that are labelled together, and again after a kill at most."""
_ROWS, _TOKENS = 64, 8192
"""Rows and padded tokens of a batch, at most."""
SHORTEST, LONGEST = 3, 200
"""Tokens of a sentence. Shorter ones are headings and smileys, longer ones lists."""
_FAINTEST = 1e-9

Tokens = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule by which labelled sentences are kept."""

    confidence: float = 0.6
    """The probability that every token's label has at least."""
    without: float = 0.25
    """The share of sentences without a name that is kept."""
    lower: float = 0.0
    """The share of kept sentences of which a copy in lower case is added."""
    seed: int = 1


class Member:
    """One tagger of a committee, through the runtime that serves it."""

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        if manifest.task != "ner" or manifest.crf is None:
            raise TrainingError(
                f"{bundle.name} version {bundle.version} is no tagger with a CRF: a committee needs these"
            )
        self.name, self.labels = f"{bundle.name} version {bundle.version}", manifest.labels
        self.digest = bundle.digest[:12]
        self.tokenizer = Tokenizer.load(bundle.file(TOKENIZER), manifest.features)
        self._engine, self._field = Engine(bundle), CRF(manifest.labels)
        with torch.no_grad():
            self._field.transitions.copy_(torch.tensor(manifest.crf.transitions))
            self._field.start.copy_(torch.tensor(manifest.crf.start))

    def marginals(self, inputs: Sequence[Tokens]) -> NDArray[np.float64]:
        """The probability of each label at each token, [inputs, time, labels]; rows past an input's end mean nothing.

        They are the gradient of the logarithm of the field's sum over all sequences with respect to the emissions.
        """
        lengths = torch.tensor([len(each) for each in inputs])
        logits = torch.from_numpy(self._engine.predict([self.tokenizer.rows(each) for each in inputs])).double()
        emissions = logits.requires_grad_()  # (B, T, L)
        with torch.enable_grad():
            total = self._field.partition(emissions, lengths).sum()
        found: NDArray[np.float64] = torch.autograd.grad(total, emissions)[0].numpy()
        return found


@dataclass(frozen=True, slots=True)
class Labelled:
    """A sentence's labels, and the probability of the least sure one."""

    tags: tuple[str, ...]
    confidence: float


class Committee:
    """Taggers with the same labels that label together. Raises `TrainingError` where these differ."""

    def __init__(self, bundles: Sequence[Bundle]) -> None:
        self.members = [Member(each) for each in bundles]
        first = self.members[0]
        for each in self.members[1:]:
            if each.labels != first.labels:
                raise TrainingError(
                    f"{each.name} has the labels {few(each.labels)}, {first.name} has {few(first.labels)}: "
                    "a committee agrees on labels"
                )
        self.labels, self.tokenizer = first.labels, first.tokenizer
        self._decode = Tagger(first.labels)

    def label(self, inputs: Sequence[Tokens]) -> list[Labelled]:
        """The labels of tokenised sentences, in order."""
        found: list[Labelled] = [Labelled((), 0.0)] * len(inputs)
        for positions in plan([len(each) for each in inputs], _ROWS, _TOKENS, None):
            part = [inputs[each] for each in positions]
            mean = np.mean([each.marginals(part) for each in self.members], axis=0)  # (B, T, L)
            logs = np.log(np.maximum(mean, _FAINTEST)).astype(np.float32)
            for row, position in enumerate(positions):
                length = len(inputs[position])
                path = self._decode.path(logs[row, :length])
                least = float(mean[row, np.arange(length), path].min())
                found[position] = Labelled(tuple(self.labels[each] for each in path), least)
        return found


def cut(
    texts: Iterable[str], tokenizer: Tokenizer, held_out: frozenset[str], tell: Tell = silent
) -> tuple[list[Tokens], int]:
    """The sentences of texts as the service cuts them, each once, and how many were left out as held out.

    `tell` gets a line on those that are left out for another reason.
    """
    seen: dict[str, None] = {}
    found: list[Tokens] = []
    others: Counter[str] = Counter()
    aside = 0
    for text in texts:
        spans = [span for _, span in tokenizer.split(text)]
        for first, end in sentences(text, spans) if spans else ():
            tokens = tuple(text[left:right] for left, right in spans[first:end])
            name = key("".join(tokens))
            if not SHORTEST <= len(tokens) <= LONGEST:
                others[f"have fewer than {SHORTEST} or more than {LONGEST} tokens"] += 1
            elif not name:
                others[f"hold {NO_KEY}"] += 1
            elif name in seen:
                others["repeat an earlier one"] += 1
            elif name in held_out:
                aside += 1
            else:
                seen[name] = None
                found.append(tokens)
    if others:
        listed = ", ".join(f"{count:,} {reason}" for reason, count in others.items())
        tell(f"note: {others.total():,} sentences are set aside: {listed}")
    return found, aside


def write(
    label: Callable[[Sequence[Tokens]], list[Labelled]],
    inputs: Sequence[Tokens],
    out: Output,
    rule: Rule,
    report: Callable[[int, int], None],
) -> int:
    """Label sentences and write those that are kept, as JSON lines that `fit --train` reads. Returns how many are kept.

    A file that an interrupted run left is continued, and has the lines of an undisturbed run at the end. Raises
    `CorpusError` for a file of other sentences or settings.
    """
    lines = out.begin()
    rows = [_row(line, inputs, out.file) for line in lines]
    # The last part may be cut off anywhere. It is labelled again as a whole, in the same batches.
    done = rows[-1] // _AT_ONCE * _AT_ONCE if rows else 0
    out.keep(line for line, row in zip(lines, rows, strict=True) if row < done)
    kept = {row for row in rows if row < done}
    for start in range(done, len(inputs), _AT_ONCE):
        part = inputs[start : start + _AT_ONCE]
        written = list(_kept(label(part), part, start, rule))
        out.append(line for _, line in written)
        kept.update(row for row, _ in written)
        report(start + len(part), len(inputs))
    return len(kept)


def _row(line: str, inputs: Sequence[Tokens], out: Path) -> int:
    """The position of a written sentence among `inputs`."""
    try:
        record = json.loads(line)
        row, tokens = int(record["row"]), [str(each).lower() for each in record["tokens"]]
    except (ValueError, KeyError, TypeError) as error:
        raise CorpusError(out, "its lines are not those of a labelled text: give another --out") from error
    if not 0 <= row < len(inputs) or [each.lower() for each in inputs[row]] != tokens:
        raise CorpusError(out, "it was begun with other texts: remove it, or give another --out")
    return row


def _kept(found: Sequence[Labelled], inputs: Sequence[Tokens], start: int, rule: Rule) -> Iterator[tuple[int, str]]:
    """The rows that are kept, each with its line."""
    for row, (each, tokens) in enumerate(zip(found, inputs, strict=True), start):
        generator = random.Random(f"{rule.seed} {row}")  # noqa: S311  # no secrets; the same wherever a run began
        named, drawn = any(tag != "O" for tag in each.tags), generator.random()
        if each.confidence < rule.confidence or (not named and drawn >= rule.without):
            continue
        copies = [tokens]
        if generator.random() < rule.lower:
            copies.append(tuple(token.lower() for token in tokens))
        for copy in copies:
            record = {"tokens": copy, "tags": each.tags, "confidence": round(each.confidence, 3), "row": row}
            yield row, json.dumps(record, ensure_ascii=False) + "\n"
