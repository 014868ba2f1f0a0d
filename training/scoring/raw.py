"""Scores on raw text: the corpus's tokens are joined as people write them; entities are compared by offsets.

A tagger learns from a corpus's tokens, and cuts raw text by its own rules. If the two differ, its figures on tokens are
too high. Some corpora of a classifier have spaces between tokens too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from service.model.bundle import Bundle, RawText
from service.model.decoding import Classifier, Tagger
from service.model.joining import parts
from service.model.sentences import sentences
from service.model.tokenizer import Encoded, Tokenizer
from training.data.detokenize import hyphens_apart, join
from training.scoring.calibration import calibration_error
from training.scoring.evaluate import Corpus, Predictor, Subject, answers, scored_entities, tags_of
from training.scoring.metrics import EntityScores, Scored, Span, entity_scores, scores_of_spans, spans


@dataclass(frozen=True, slots=True)
class RawReport:
    """Entities of the same sentences, found among the corpus's own tokens (by token) and in raw text (by offset)."""

    data: str
    sentences: int
    same: int
    """Sentences that the tokenizer cuts into the corpus's own tokens."""
    recut: int
    """Entities that the tokenizer cuts into other tokens than the corpus does."""
    across: int
    """Those of them that begin or end inside a token of the raw text: no answer can give them."""
    tokens: EntityScores
    raw: EntityScores
    scored_tokens: tuple[Scored, ...] = ()
    scored_raw: tuple[Scored, ...] = ()
    """The scores of the entities found among tokens and in raw text."""

    def as_json(self) -> dict[str, float | int]:
        """The figures on raw text, by name; `calibration_error` only if an entity was found."""
        confidence, right = [each.score for each in self.scored_raw], [each.right for each in self.scored_raw]
        calibration = {"calibration_error": calibration_error(confidence, right)} if confidence else {}
        return {
            "precision": self.raw.precision,
            "recall": self.raw.recall,
            "f1": self.raw.f1,
            "same_tokens": self.same / self.sentences,
            "entities": self.raw.support,
            "recut": self.recut,
            "across": self.across,
            **calibration,
        }

    def kept(self) -> RawText:
        """The same as the manifest keeps it."""
        return RawText(
            data=self.data,
            sentences=self.sentences,
            same_tokens=self.same / self.sentences,
            entities=self.raw.support,
            recut=self.recut,
            across=self.across,
            f1_tokens=self.tokens.f1,
            f1=self.raw.f1,
        )


def measure(
    predict: Predictor, corpus: Corpus, decode: Classifier | Tagger, tokenizer: Tokenizer, limit: int
) -> RawReport:
    """Score a tagger on a corpus's tokens and on its sentences as raw text, cut at `limit` tokens.

    Raises `ValueError` for a corpus without a sentence.
    """
    if not corpus.encoded:
        raise ValueError("there is nothing to score")
    originals = [[str(token["text"]) for token in each.tokens()] for each in corpus.encoded]
    tags = [list(gold[: len(tokens)]) for gold, tokens in zip(corpus.gold, originals, strict=True)]
    apart = hyphens_apart(originals)
    joined = [join(tokens, apart=apart) for tokens in originals]
    gold = [
        {(kind, each.spans[first][0], each.spans[end - 1][1]) for kind, first, end in spans(labels)}
        for each, labels in zip(joined, tags, strict=True)
    ]
    cut = [tokenizer.split(each.text) for each in joined]
    # As the service does it: each text is read sentence by sentence.
    read = [
        (at, part)
        for at, (each, pieces) in enumerate(zip(joined, cut, strict=True))
        if pieces
        for part in _by_sentence(tokenizer.encode(each.text, limit, truncate=True))
    ]
    found: list[dict[Span, float]] = [{} for _ in joined]  # with the score of each entity
    parts = replace(corpus, gold=[], encoded=[part for _, part in read])
    for (at, _), answer in zip(read, answers(predict, parts, decode), strict=True):
        entities = answer["entities"]
        assert isinstance(entities, list)
        found[at] |= {(entity["label"], entity["start"], entity["end"]): entity["score"] for entity in entities}
    by_token = answers(predict, corpus, decode)
    pieces = [[span for _, span in each] for each in cut]
    return RawReport(
        data=corpus.name,
        sentences=len(joined),
        same=sum(ours == each.spans for ours, each in zip(pieces, joined, strict=True)),
        recut=sum(
            _inside(ours, name) != _inside(each.spans, name)
            for ours, each, names in zip(pieces, joined, gold, strict=True)
            for name in names
        ),
        across=sum(_across(ours, name) for ours, names in zip(pieces, gold, strict=True) for name in names),
        tokens=entity_scores(tags, [tags_of(answer, len(row)) for answer, row in zip(by_token, tags, strict=True)]),
        raw=scores_of_spans(gold, [set(each) for each in found]),
        scored_tokens=scored_entities(by_token, [tuple(each) for each in tags]),
        scored_raw=tuple(
            Scored(entity[0], score, entity in names)
            for each, names in zip(found, gold, strict=True)
            for entity, score in each.items()
        ),
    )


def of_bundle(bundle: Bundle, corpus: Corpus) -> RawReport:
    """Score a tagger through the runtime that serves it."""
    of = Subject(bundle)
    return measure(of.engine.predict, corpus, of.decoder, of.tokenizer, of.manifest.token_limit)


def texts_of_bundle(bundle: Bundle, corpus: Corpus) -> dict[str, float]:
    """Score a classifier on a corpus's texts as people write them: parted at their spaces, and joined anew.

    The metrics, and the share of the texts that the tokenizer cuts into the `same_tokens` as those of the file.
    """
    of = Subject(bundle)
    parted = [each.text.split() for each in corpus.encoded]
    apart = hyphens_apart(parted)
    texts = [join(each, apart=apart).text for each in parted]
    encoded = [of.tokenizer.encode(text, of.manifest.token_limit, truncate=True) for text in texts]
    same = sum(_words(ours) == _words(theirs) for ours, theirs in zip(encoded, corpus.encoded, strict=True))
    return {**of.measure(replace(corpus, encoded=encoded)).metrics, "same_tokens": same / len(parted)}


def _words(source: Encoded) -> list[str | int]:
    return [token["text"] for token in source.tokens()]


def _by_sentence(source: Encoded) -> list[Encoded]:
    """A text's sentences, with their places in the text."""
    source.sentences = sentences(source.text, source.spans)
    return parts([source])


def _inside(pieces: list[tuple[int, int]], name: Span) -> list[tuple[int, int]]:
    """The pieces of a text that touch an entity."""
    _, start, end = name
    return [piece for piece in pieces if piece[0] < end and piece[1] > start]


def _across(pieces: list[tuple[int, int]], name: Span) -> bool:
    """True when an entity begins or ends inside a piece."""
    inside = _inside(pieces, name)
    return not inside or (inside[0][0], inside[-1][1]) != name[1:]
