"""One request and its answer, for the work after the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import time

from service.model.decoding import Prediction
from service.model.loading import Model
from service.model.tokenizer import Encoded


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that was answered with predictions, in any protocol."""

    request_id: str
    route: str
    """The route's template."""
    model: Model
    encoded: Sequence[Encoded]
    predictions: Sequence[Prediction]
    tokenised: Sequence[bool] = ()
    """True for each input that came as tokens. Empty if none did."""
    truncate: bool = False
    split: bool = True
    then: float = field(default_factory=time)
    """Time of the answer, in seconds since 1970."""

    @property
    def tokens(self) -> int:
        return sum(map(len, self.encoded))

    @property
    def rows(self) -> int:
        """Rows that a model runs: texts, or their sentences."""
        return sum(len(source.sentences or (0,)) for source in self.encoded)

    def inputs(self) -> list[str | list[str]]:
        """The inputs as sent, without truncated tails."""
        came = self.tokenised or [False] * len(self.encoded)
        return [
            [source.text[start:end] for start, end in source.spans] if tokens else source.text
            for source, tokens in zip(self.encoded, came, strict=True)
        ]
