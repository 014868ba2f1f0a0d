"""A tagger's labels for a text that arrives token by token: provisional ones at once, final ones once settled.

The labels of a sentence are its most probable sequence, so a later token can change earlier labels until the sentence
ends. In a long sentence a label counts as settled once enough tokens have followed, because by then the competing
sequences agree that far back (Viterbi with a fixed lag). The lag bounds the memory.
"""

from __future__ import annotations

import zlib
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
OPEN_BYTES = 8192, 65_536
"""Bytes that the unsettled tokens may take in a state, with few labels and with many. With more, the tokens in front of
the last half of them settle before the lag. With seven labels and a lag of 64, words of 36 bytes reach it."""
_WORD_BYTES = 8
"""Bytes of a token in a state, beside its logits, for which many labels get room."""
LOGIT_BYTES = 4
_LONG = 64
"""A token of so many bytes or more is compressed, to estimate its size in a state."""
_MOST_PACKED = 16
"""A token counts for at least one byte in so many, however well it compresses, because it takes memory."""


@dataclass(slots=True)
class _Open:
    """A token with an unsettled label. `gap` is the text between it and the token before."""

    text: str
    gap: str
    start: int
    back: list[int] = field(default_factory=list)  # for each label, the best label of the token before

    @property
    def bytes(self) -> int:
        content = f"{self.gap}{self.text}".encode()
        size = len(content)
        return size if size < _LONG else max(len(zlib.compress(content, 1)), size // _MOST_PACKED)


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
    _bytes: int = 0  # of the open tokens

    @property
    def most_bytes(self) -> int:
        """Limit on the bytes of the open tokens in a state."""
        least, most = OPEN_BYTES
        return min(most, max(least, 2 * self.lag * (_WORD_BYTES + LOGIT_BYTES * len(self.tagger.labels))))

    def add(self, token: Token, logits: Sequence[float]) -> str:
        """Add one token of the sentence, logits [labels]. Returns its provisional label, from the best sequence so
        far."""
        self._open.append(_Open(token.text, token.gap, token.start, self._advance(logits)))
        self._logits.append(logits)
        self._bytes += self._size(self._open[-1])
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
                head, *rest = self._open[start:end]
                text, span = head.text + "".join(each.gap + each.text for each in rest), (head.start, spans[end - 1][1])
                tokens = self.first + start, self.first + end
                events.append({"type": "entity", **self.tagger.entity(found.labels[start], score, text, span, *tokens)})
        self.first += count
        self._before = None if ended else self.tagger.after(scores[:count], found.labels[count - 1], self._before)
        self._best = None
        del self._open[:count], self._logits[:count]
        self._bytes = sum(map(self._size, self._open))
        for each, logits in zip(self._open, self._logits, strict=True):
            each.back = self._advance(logits)
        return events

    def _is_due(self) -> bool:
        """True if an entity of the best sequence ended `lag` tokens ago, or the open sentence is long."""
        count = len(self._open)
        if self._bytes > self.most_bytes and count > 1:
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
        most, large = len(path) - self.lag, self._bytes > self.most_bytes
        if large:
            kept = accumulate(map(self._size, reversed(self._open)))  # by the last 1, 2, … tokens
            fitting = sum(size <= self.most_bytes // 2 for size in kept)
            most = max(most, len(path) - max(1, fitting))
        count = most
        while count > 0 and self._continues(path, count):
            count -= 1
        return most if not count and (large or len(path) >= _LONGEST * self.lag) else count

    def _size(self, token: _Open) -> int:
        return token.bytes + LOGIT_BYTES * len(self.tagger.labels)

    # The state between two pieces

    def keep(self) -> tuple[list[Any], bytes, bytes]:
        """The state for `resume`: plain values, the weights before the open tokens [labels], and their logits
        [tokens, labels]."""
        label, forward = (None, b"") if self._before is None else (self._before.label, self._before.forward.tobytes())
        tokens = [[each.text, each.gap, each.start] for each in self._open]
        return [self.first, tokens, label], forward, np.array(self._logits, np.float32).tobytes()

    def resume(self, kept: list[Any], forward: bytes, logits: bytes) -> None:
        """Take over the state of another."""
        self.first, tokens, label = kept
        self._before = None if label is None else Before(label, np.frombuffer(forward))
        self._best = None
        self._logits = [*np.frombuffer(logits, np.float32).reshape(-1, len(self.tagger.labels)).tolist()]
        self._open = [_Open(*token) for token in tokens]
        self._bytes = sum(map(self._size, self._open))
        for each, row in zip(self._open, self._logits, strict=True):
            each.back = self._advance(row)
