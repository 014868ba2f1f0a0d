"""A tagger's labels for a text that arrives token by token: provisional ones at once, final ones once settled.

The labels of a sentence are its most probable sequence, so a later token can change earlier labels until the sentence
ends. In a long sentence a label counts as settled once enough tokens have followed, because by then the competing
sequences agree that far back (Viterbi with a fixed lag). The lag bounds the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.model.decoding import Before, Tagger, log_softmax
from service.model.streams.reading import Token

Floats = NDArray[np.float64]
Event = dict[str, Any]

_LONGEST = 4
"""An entity that is still open after this many times the lag is cut."""
MOST_OPEN_BYTES = 4096
"""Bytes of the text of unsettled tokens. With more, the tokens in front of the last half of them settle before the lag:
a state must have room for all. Words of 32 bytes reach it with the largest lag that the service allows."""


@dataclass(slots=True)
class _Open:
    """A token with an unsettled label. `gap` is the text between it and the token before."""

    text: str
    gap: str
    start: int
    back: list[int] = field(default_factory=list)  # for each label, the best label of the token before

    @property
    def bytes(self) -> int:
        return len(self.text.encode()) + len(self.gap.encode())


@dataclass(slots=True)
class Tagging:
    """The open sentence of one stream. `lag` is the number of tokens after which a label counts as settled."""

    tagger: Tagger
    lag: int
    first: int = 0
    """The number of the first open token."""
    _open: list[_Open] = field(default_factory=list)
    _logits: list[Sequence[float]] = field(default_factory=list)
    _best: Floats | None = None  # [labels], scores of the best sequences that end with the last token
    _before: Before | None = None
    _bytes: int = 0  # of the open tokens' text

    def add(self, token: Token, logits: Sequence[float]) -> str:
        """Add one token of the sentence, logits [labels]. Returns its provisional label, from the best sequence so
        far."""
        self._open.append(_Open(token.text, token.gap, token.start, self._advance(logits)))
        self._logits.append(logits)
        self._bytes += self._open[-1].bytes
        assert self._best is not None
        return self.tagger.labels[int(self._best.argmax())]

    def _advance(self, logits: Sequence[float]) -> list[int]:
        scores = log_softmax(np.array(logits))
        if self._best is None:
            self._best = self.tagger.first(self._before) + scores
            return []
        back, best = self.tagger.onward(self._best)
        self._best = best + scores
        self._best -= self._best.max()
        return list(map(int, back))

    def settle(self, *, ended: bool) -> list[Event]:
        """The newly settled labels and entities; all of them if the sentence has `ended`."""
        count = len(self._open)
        if not count or not (ended or self._is_due()):
            return []
        scores = log_softmax(np.array(self._logits))
        found = self.tagger.read(scores, self._before)
        if not ended:
            count = self._settled(found.labels)
            if not count:
                return []
        labels = [self.tagger.labels[label] for label in found.labels[:count]]
        spans = [[each.start, each.start + len(each.text)] for each in self._open[:count]]
        scored = found.probabilities[:count]
        events: list[Event] = [{"type": "labels", "t": self.first, "labels": labels, "scores": scored, "spans": spans}]
        for start, end, score in found.entities:
            if end <= count:
                text = self._open[start].text + "".join(each.gap + each.text for each in self._open[start + 1 : end])
                place = self._open[start].start, self.first + start, self.first + end
                events.append({"type": "entity", **self.tagger.entity(found.labels[start], score, text, *place)})
        self.first += count
        self._before = None if ended else self.tagger.after(scores[:count], found.labels[count - 1], self._before)
        self._best = None
        del self._open[:count], self._logits[:count]
        self._bytes = sum(each.bytes for each in self._open)
        for each, logits in zip(self._open, self._logits, strict=True):
            each.back = self._advance(logits)
        return events

    def _is_due(self) -> bool:
        """True if an entity of the best sequence ended `lag` tokens ago, or the open sentence is long."""
        count = len(self._open)
        if self._bytes > MOST_OPEN_BYTES and count > 1:
            return True
        if count <= self.lag:
            return False
        if count >= 2 * self.lag:
            return True
        path = self._path()
        return any(
            self.tagger.labels[path[at]] != "O" and not self._continues(path, at + 1) for at in range(count - self.lag)
        )

    def _path(self) -> list[int]:
        """The best sequence so far."""
        assert self._best is not None
        label = int(self._best.argmax())
        path = [label]
        for each in reversed(self._open[1:]):
            label = each.back[label]
            path.append(label)
        return path[::-1]

    def _continues(self, path: Sequence[int], at: int) -> bool:
        """True if the token at `at` continues an entity."""
        return at < len(path) and self.tagger.labels[path[at]].startswith("I-")

    def _settled(self, path: Sequence[int]) -> int:
        """The number of tokens settled by the lag. It cuts no entity, except a very long one."""
        most, large = len(path) - self.lag, self._bytes > MOST_OPEN_BYTES
        if large:
            kept = list(accumulate(each.bytes for each in reversed(self._open)))  # by the last 1, 2, … tokens
            fitting = sum(size <= MOST_OPEN_BYTES // 2 for size in kept)
            most = max(most, len(path) - max(1, fitting))
        count = most
        while count > 0 and self._continues(path, count):
            count -= 1
        return most if not count and (large or len(path) >= _LONGEST * self.lag) else count

    # The state between two pieces

    def keep(self) -> tuple[list[Any], NDArray[np.float32]]:
        """The state for `resume`: plain values, and the open tokens' logits [tokens, labels]."""
        before = None if self._before is None else [self._before.label, self._before.forward.tolist()]
        rows = np.array(self._logits, np.float32).reshape(-1, len(self.tagger.labels))
        return [self.first, [[each.text, each.gap, each.start] for each in self._open], before], rows

    def resume(self, kept: list[Any], logits: NDArray[np.float32]) -> None:
        """Take over the state of another."""
        self.first, tokens, before = kept
        infinite = [-np.inf if value is None else value for value in before[1]] if before else []
        self._before = Before(before[0], np.array(infinite)) if before else None
        self._best = None
        self._logits = logits.tolist()
        self._open = [_Open(*token) for token in tokens]
        self._bytes = sum(each.bytes for each in self._open)
        for each, row in zip(self._open, self._logits, strict=True):
            each.back = self._advance(row)
