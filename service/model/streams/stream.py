"""One text that arrives in pieces: from pieces to events and, at its end, the prediction.

A stream has no loop of its own. `feed` takes a piece, `job` returns the work to do, and `took` takes its result and
returns events. So the jobs of many streams can run as one batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from service.errors import InvalidField, TooLarge
from service.model.bundle import Manifest
from service.model.decoding import Classifier, Prediction, Tagger, softmax
from service.model.gates import Selection, check_finite, round_in_place, select
from service.model.streams.entities import Entity, packed, unpacked
from service.model.streams.reading import StreamTokenizer, Token
from service.model.streams.stepping import StepJob, Stepped, Stepper
from service.model.streams.tagging import LOGIT_BYTES, OPEN_BYTES, Event, Tagging
from service.model.tokenizer import Tokenizer

MOST_STEPS = 16
"""Tokens of one stream in one batch. With more, other streams would wait longer."""
MOST_NUMBERS = 65_536
"""Activations in one event. As JSON they stay under 1 MiB, the default limit of WebSocket clients."""


class Readable(Protocol):
    """The parts of a loaded model that a stream needs."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def decoder(self) -> Classifier | Tagger: ...

    @property
    def token_limit(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """The contents of a stream's events: one event for every `every`-th token, with the activations of `selection` if
    given, rounded to `decimals` (None: not rounded)."""

    every: int = 1
    selection: Selection | None = None
    decimals: int | None = 4

    def numbers(self, tokens: int) -> int:
        """Upper bound on the activations in the events of `tokens` tokens."""
        return 0 if self.selection is None else self.selection.numbers(-(-tokens // self.every))


def wanted(
    manifest: Manifest,
    gates: Sequence[str],
    layers: Sequence[int] | None,
    units: Sequence[int] | None,
    every: int,
    decimals: int | None,
) -> Wanted:
    """The requested contents of events of a model that reads forward only. Raises `InvalidField` for unknown gates,
    layers and units; `TooLarge` for more than `MOST_NUMBERS` activations in an event."""
    selection = select(manifest, gates or None, layers, None, units)
    if not gates:
        return Wanted(every, None, decimals)
    if (numbers := selection.numbers(1)) > MOST_NUMBERS:
        raise TooLarge("Numbers in the gates of one event", numbers, MOST_NUMBERS)
    return Wanted(every, selection, decimals)


class Stream:
    """One stream of one model. Not thread-safe."""

    def __init__(
        self, model: Readable, stepper: Stepper, wanted: Wanted, *, split: bool = True, settle: int = 32
    ) -> None:
        """With `split` a tagger's raw text is read sentence by sentence. A label counts as settled after `settle`
        further tokens."""
        self._model, self._stepper, self.wanted = model, stepper, wanted
        tagger = model.decoder if isinstance(model.decoder, Tagger) else None
        self.split = split and tagger is not None
        self._reader = StreamTokenizer(model.tokenizer, split=self.split, gaps=tagger is not None)
        self._tagging = Tagging(tagger, settle) if tagger is not None else None
        self._state = stepper.start
        self._pending: deque[Token] = deque()  # final tokens that are not stepped yet
        self._entities: list[Entity] = []
        self._truncated = False
        self._limit = model.token_limit
        self.logits: list[float] = []
        """A classifier's logits for the text so far; empty before its first token."""
        self.count = 0
        """Tokens stepped so far."""
        self.read = 0
        """Code points of the text, or tokens of a text that comes as tokens, taken so far."""

    @property
    def model_bytes(self) -> int:
        """Bytes in a state that the model needs, beside room for the text: the network's memory, for each label the sum
        of a CRF and the logit of one token, or the last logit, and the open tokens of many labels."""
        open_tokens = 0 if self._tagging is None else self._tagging.most_bytes - OPEN_BYTES[0]
        return len(self._state) + (8 + LOGIT_BYTES) * len(self._model.decoder.labels) + open_tokens

    @property
    def entities(self) -> int:
        """Entities in a state, for the prediction at the end."""
        return len(self._entities)

    @property
    def characters(self) -> int:
        """Code points of the text taken so far; of tokens, joined by one space."""
        return self._reader.characters

    @property
    def waiting(self) -> int:
        """Final tokens that are not stepped yet."""
        return len(self._pending)

    def feed(self, text: str) -> None:
        """Take a piece of text. Raises `InvalidField`. An empty one changes nothing, in a stream of tokens, too."""
        if not text:
            return
        self._pending += self._reader.feed(text)
        self.read += len(text)

    def feed_tokens(self, tokens: Sequence[str]) -> None:
        """Take tokens. Raises `InvalidField`. No tokens change nothing, in a stream of text, too."""
        if not tokens:
            return
        self._pending += self._reader.feed_tokens(tokens)
        self.read += len(tokens)

    def end(self) -> None:
        """End the text: its last tokens become final."""
        self._pending += self._reader.end()

    def job(self, most: int = MOST_STEPS) -> StepJob | None:
        """The next step, or up to `most` steps; None if no token waits. Pass its result to `took` before the next
        call."""
        if not self._pending:
            return None
        most = min(most, MOST_STEPS)
        rows: list[bytes] = []
        for token in self._pending:
            if rows and (token.begins or len(rows) == most):
                break
            rows.append(token.row)
        state = self._stepper.start if self._pending[0].begins else self._state
        return StepJob(rows, state, self.wanted.selection is not None)

    def took(self, stepped: Stepped) -> list[Event]:
        """Take the result of a job. Returns the events, in order."""
        self._state = stepped.state
        events: list[Event] = []
        for row, logits in enumerate(stepped.logits):
            token = self._pending.popleft()
            if self._tagging is not None:
                if token.begins:
                    events += self._settled(ended=True)
                said: Event = {"label": self._tagging.add(token, logits)}
            else:
                self.logits = logits
            number, self.count = self.count, self.count + 1
            if self.count % self.wanted.every == 0:
                if self._tagging is None:
                    said = {"scores": self._scores()}
                events.append(
                    {"type": "token", "t": number, "text": token.text, "start": token.start, "end": token.end, **said}
                )
                if stepped.gates is not None:
                    events[-1]["gates"] = self._gates(stepped, row)
            if self._tagging is not None:
                events += self._settled(ended=False)
        return events

    def finish(self) -> tuple[list[Event], Prediction]:
        """The last events, and the prediction of the whole text. Call it after `end`, once no token waits.

        Raises `InvalidField` for a text without a token.
        """
        if not self.count:
            raise InvalidField("/text", "The text is empty: it holds no token.")
        if self._tagging is None:
            scores = self._scores()
            label = max(scores, key=scores.__getitem__)
            return [], {"label": label, "score": scores[label], "scores": scores, "truncated": False}
        events = self._settled(ended=True)
        return events, {"entities": self._entities, "truncated": self._truncated}

    def _settled(self, *, ended: bool) -> list[Event]:
        assert self._tagging is not None
        events = self._tagging.settle(ended=ended)
        for event in events:
            if event["type"] == "entity":
                self._truncated = self._truncated or event["token_end"] > self._limit
                if not self._truncated:
                    self._entities.append({name: value for name, value in event.items() if name != "type"})
        self._truncated = self._truncated or self.count > self._limit
        return events

    def _scores(self) -> dict[str, float]:
        return dict(zip(self._model.decoder.labels, softmax(self.logits), strict=True))

    def _gates(self, stepped: Stepped, row: int) -> dict[str, dict[str, NDArray[np.floating]]]:
        """The gates of a token by layer, each an array [units], which takes less time to print than a list.

        Raises `ValueError` for an activation that is not finite.
        """
        selection, decimals, place = self.wanted.selection, self.wanted.decimals, stepped.place
        assert selection is not None
        assert stepped.gates is not None
        kind, shape = np.float32 if decimals is None else np.float64, (len(selection.gates), len(selection.units))
        found: dict[str, dict[str, NDArray[np.floating]]] = {}
        for layer in selection.layers:
            gates, shown = stepped.gates[row][layer], found.setdefault(str(layer), {})
            numbers = np.empty(shape, kind)
            for at, name in enumerate(selection.gates):
                shown[name] = own = numbers[at]
                own[:] = gates[name][place, selection.columns]
            if decimals is None:
                check_finite(numbers)
            else:
                round_in_place(numbers, decimals)
        return found

    # The state between two pieces

    def keep(self, most: int | None = None) -> bytes:
        """The state, for `resume`, with the first `most` entities, or all."""
        tagging, *numbers = (None, np.array(self.logits).tobytes()) if self._tagging is None else self._tagging.keep()
        kept = self._entities if most is None else self._entities[:most]
        truncated = self._truncated or len(kept) < len(self._entities)
        pending = [[each.text, each.start, each.row.hex(), each.begins, each.gap] for each in self._pending]
        counts = [self.count, self.read]
        plain = orjson.dumps([self._reader.keep(), counts, self.split, packed(kept), truncated, pending, tagging])
        return b"".join(len(part).to_bytes(4, "big") + part for part in (plain, self._state, *numbers))

    @classmethod
    def resume(cls, model: Readable, stepper: Stepper, wanted: Wanted, kept: bytes, *, settle: int = 32) -> Stream:
        """A stream that continues from the state of another one with the same model."""
        parts, at = [], 0
        while at < len(kept):
            size = int.from_bytes(kept[at : at + 4], "big")
            parts.append(kept[at + 4 : at + 4 + size])
            at += 4 + size
        plain, state, *numbers = parts
        reader, counts, split, entities, truncated, pending, tagging = orjson.loads(plain)
        stream = cls(model, stepper, wanted, split=split, settle=settle)
        stream._reader.resume(reader)
        (stream.count, stream.read), stream._truncated = counts, truncated
        for text, start, row, begins, gap in pending:
            stream._pending.append(Token(text, start, start + len(text), bytes.fromhex(row), begins, gap))
        stream._entities = unpacked(entities)
        stream._state = state
        if len(state) != len(stepper.start):
            raise ValueError("the state does not fit the model")
        if stream._tagging is not None:
            stream._tagging.resume(tagging, *numbers)
        else:
            stream.logits = np.frombuffer(numbers[0]).tolist()
        return stream
