"""The material of a training: its examples in numbers, the untrained network, and the tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from service.model.bundle import Feature, FeatureName, LabelCounts, Task
from service.model.features import CHARACTERS, SHAPES
from service.model.rules import Style
from service.model.tokenizer import UNKNOWN, Tokenizer, build
from training import limits, shipped, start
from training.data import conventions, vectors, vocabulary
from training.data.batches import Sample, encode
from training.data.checks import Part, counts, notes, with_tokens
from training.data.corpora import Example, Layout, check_labels, labels, read
from training.data.sources import few
from training.distil import transfer
from training.errors import TrainingError
from training.export.bundle import TOKEN_LIMIT
from training.export.onnx.embedding import unpackable
from training.loop import pretrain
from training.nets.networks import EMBEDDING_SIZES, Architecture, Network
from training.options import FitOptions
from training.scoring.evaluate import Corpus, corpus_name, corpus_of
from training.shipped import Lent
from training.start import Parent, parent, resolved

_FEATURES: dict[Task, tuple[FeatureName, ...]] = {
    "sentiment": ("word",),
    "ner": ("word", "shape", "prefix", "suffix"),
}
_BUCKETS = 2048
_CHARACTER_COLUMNS = 20
_SHOWN = 30
"""Labels in a line of the log."""
_THIRD = 1 / 3
"""The share of the training data's words with a vector below which a warning says so."""


@dataclass(frozen=True, slots=True)
class Data:
    """The labelled files of a training, by their use. Every example has a token."""

    train: Sequence[Part]
    dev: Sequence[Part]
    test: Sequence[Part] = ()

    @classmethod
    def read(
        cls,
        task: Task,
        layout: Layout,
        tell: Callable[[str], None],
        train: Sequence[Path],
        dev: Sequence[Path],
        test: Sequence[Path] = (),
    ) -> Data:
        """Read each file once. Rows without a token are set aside; `tell` gets a line on these, and on the choices of
        the reader. Raises `CorpusError`."""
        plain = build([UNKNOWN], [])
        parts = {
            path: Part(path, with_tokens(path, read(path, task, layout, tell), plain, tell))
            for path in dict.fromkeys((*train, *dev, *test))
        }
        return cls(*([parts[path] for path in paths] for paths in (train, dev, test)))


@dataclass(frozen=True, slots=True)
class Material:
    """`options` have every setting fixed. `sizes` has the number of examples of each training file, `counts` the labels
    of these and of the dev files. `parent` is the bundle that the training goes on from,
    `lent` the word vectors that it begins with."""

    options: FitOptions
    network: Network
    tokenizer: Tokenizer
    labels: tuple[str, ...]
    samples: list[Sample]
    dev: list[Corpus]
    test: list[Corpus]
    sizes: list[tuple[Path, int]]
    counts: tuple[LabelCounts, ...]
    parent: Parent | None = None
    lent: Lent | None = None


def gather(options: FitOptions, tell: Callable[[str], None], data: Data | None = None) -> Material:
    """Read the files of a training, each once, and make its network. `tell` gets a line on each file. `data` stand in
    place of the files.

    Raises `CorpusError` for data that cannot be used, `TrainingError` for options that contradict each other.
    """
    options = resolved(options)
    begun = parent(options)
    task = options.design.task
    data = data or Data.read(task, options.layout, tell, options.train, options.dev, options.test)
    first, *others = data.train
    style = conventions.chosen(first.examples, options.tokenizer, tell)
    train = [first, *(_conformed(part, first, style, tell) for part in others)]
    examples = [example for part in train for example in part.examples]
    options = options.suited(len(examples))
    limits.labels_fit(train, task)
    names = labels(examples, task, options.train[0])
    limits.files_fit([part.path for part in train], [part.path for part in (*data.dev, *data.test)])
    for part in (*data.dev, *data.test):
        check_labels(names, part.examples, part.path)
    counted = tuple(
        LabelCounts(data=corpus_name(part.path), examples=len(part.examples), labels=counts(part.examples, task))
        for part in (*train, *data.dev)
    )
    blank = build([UNKNOWN], [], style)
    taught = {path: transfer.taught(path, names, blank, tell) for path in options.soft}
    answered = [each for found in taught.values() for each in found]
    texts = [each.example for each in answered]
    if begun:
        tokens_of = _words([*examples, *texts], blank)
        network, tokenizer = start.network(options, begun, tokens_of, names, tell)
        lent = None
    else:
        network, tokenizer, lent = _network(options, [*examples, *texts], names, style, tell)
    limits.manifest_fits(network, counted)
    options = shipped.named_in(options, lent)
    if answered:
        labelled = sum(each.labelled for each in answered)
        tell(f"{len(answered):,} texts with a teacher's logits; {labelled:,} of them have a label")
    for each in counted:
        tell(_counted(each, task))
    for note in notes(train, [*data.dev, *data.test], task):
        tell(f"warning: {note}")
    if skew := _skew(examples, tokenizer):
        tell(skew)
    samples = encode(examples, tokenizer, names)
    samples += [each.sample(tokenizer, names) for each in answered]

    def corpora(parts: Sequence[Part]) -> list[Corpus]:
        return [corpus_of(corpus_name(part.path), part.examples, task, tokenizer, TOKEN_LIMIT) for part in parts]

    dev, test = corpora(data.dev), corpora(data.test)
    tokens = sum(len(sample.rows) for sample in samples)
    tell(f"train: {len(samples):,} examples, {tokens:,} tokens; {few(f'{d.name}: {len(d.gold):,}' for d in dev)}")
    words = network.architecture.features[0].size
    tell(f"labels: {few(names)}; {words:,} words; {_parameters(network):,} weights")
    tell(_settings(options))
    if options.recipe.bptt:
        tell(_windows(options, samples))
    network.learn(1 + max(int(sample.rows[:, 0].max()) for sample in samples))
    sizes = [(part.path, len(part.examples)) for part in train]
    sizes += [(path, len(found)) for path, found in taught.items()]
    return Material(options, network, tokenizer, names, samples, dev, test, sizes, counted, begun, lent)


def _conformed(part: Part, first: Part, style: Style, tell: Callable[[str], None]) -> Part:
    """Tagged sentences beside those of the first file, with tokens as that file's are."""
    if isinstance(part.examples[0].value, str) or not conventions.differs(first.examples, part.examples, style):
        return part
    examples, changed = conventions.conform(part.examples, style)
    tell(f"{corpus_name(part.path)}: {changed:,} of {len(examples):,} sentences are cut anew, in the style {style}")
    return Part(part.path, examples)


def _counted(found: LabelCounts, task: Task) -> str:
    """How often each label occurs. Only the most frequent of many labels are listed."""
    by_count = sorted(found.labels.items(), key=lambda pair: -pair[1])
    listed = ", ".join(f"{label} {count:,}" for label, count in by_count[:_SHOWN])
    more = f", {len(by_count) - _SHOWN:,} more labels" if len(by_count) > _SHOWN else ""
    unit = "sentences; entities" if task == "ner" else "rows; labels"
    return f"{found.data}: {found.examples:,} {unit}: {listed or 'none'}{more}"


def _settings(options: FitOptions) -> str:
    """The settings that depend on how many examples there are."""
    recipe = options.recipe
    return (
        f"at most {recipe.epochs} epochs, patience {recipe.patience}, {recipe.batch_rows} rows a batch, "
        f"learning rate {recipe.learning_rate:.2g}, dropout {options.dropout:g}, word dropout {options.word_dropout:g}"
    )


def _windows(options: FitOptions, samples: list[Sample]) -> str:
    """A line on the effect of truncated BPTT on this data."""
    width = options.recipe.bptt
    longer = sum(len(sample.rows) > width for sample in samples)
    losses = {
        "windows": "each window has a loss, for the label by what was read so far",
        "end": "the loss stands at a text's end: its gradient reaches the last window alone",
    }
    document = options.design.task == "sentiment"
    where = losses[options.recipe.bptt_loss] if document else "each token's loss stands in its own window"
    much = f"{longer:,} of {len(samples):,} examples are longer"
    return f"truncated BPTT in windows of {width:,} tokens ({much}); {where}"


def _network(
    options: FitOptions, examples: list[Example], names: tuple[str, ...], style: Style, tell: Callable[[str], None]
) -> tuple[Network, Tokenizer, Lent | None]:
    """An untrained network, the tokenizer that its embeddings belong to, and the word vectors that it begins with."""
    blank = build([UNKNOWN], [], style)
    if options.start:
        return *_pretrained(options, options.start, names, style), None
    tokens = _words(examples, blank)
    lent = shipped.chosen(options, len(examples), tokens, blank.normalize, tell)
    loaded = lent.vectors if lent else None
    size = loaded.size if loaded else EMBEDDING_SIZES["word"]
    if reason := unpackable(options.design.word_bits, size):
        raise TrainingError(reason)
    words = vocabulary.choose(tokens, loaded, options.words)
    if loaded:
        for line in _coverage(words, tokens, loaded):
            tell(line)
    sizes: dict[FeatureName, int] = {"word": len(words), "shape": SHAPES, "prefix": _BUCKETS, "suffix": _BUCKETS}
    features = tuple(Feature(name=name, size=sizes[name]) for name in _FEATURES[options.design.task])
    if options.design.characters:
        # Characters tell more than their hashed ends do.
        features = tuple(feature for feature in features if feature.name in ("word", "shape"))
        features += (Feature(name="character", size=CHARACTERS, columns=_CHARACTER_COLUMNS),)
    shape = Architecture.of(options.design, names, features, size)
    network = Network(shape, options.dropouts, options.initial)
    if loaded:
        table = vocabulary.initial_table(words, loaded, np.random.default_rng(options.recipe.seed))
        network.embeddings["word"].weight.data = torch.from_numpy(table)
    return network, build(words, features, style), lent


def _coverage(words: list[str], tokens: list[str], loaded: vectors.Vectors) -> Iterator[str]:
    """How much of the vocabulary, and of the training data, has a vector."""
    known = set(loaded.words)
    rows = [word for word in words if word != UNKNOWN]
    learned = set(tokens)
    have = len(learned & known)
    running = sum(token in known for token in tokens)
    yield (
        f"vectors: {sum(word in known for word in rows):,} of the vocabulary's {len(rows):,} words have one; of the "
        f"training data {have:,} of {len(learned):,} different words, {running / max(1, len(tokens)):.0%} of all tokens"
    )
    if loaded.repeated:
        yield f"note: {loaded.repeated:,} words stand in the file of vectors again: the first vector of each is used"
    if have < _THIRD * len(learned):
        yield (
            f"warning: only {have / len(learned):.0%} of the training data's words have a vector: are the vectors of "
            "this language, and is the file the right one?"
        )


def _pretrained(options: FitOptions, start: Path, names: tuple[str, ...], style: Style) -> tuple[Network, Tokenizer]:
    """A network that begins with a pretrained encoder, and the tokenizer of that encoder's words."""
    words, size = pretrain.table_of(start)
    features = (Feature(name="word", size=len(words)),)
    shape = Architecture.of(options.design, names, features, size)
    network = Network(shape, options.dropouts, options.initial)
    pretrain.start(network, start)
    return network, build(words, features, style)


def _words(examples: list[Example], tokenizer: Tokenizer) -> list[str]:
    """Every token of the examples, normalised."""
    forms: dict[str, str] = {}
    found = []
    for example in examples:
        value = example.value
        for token in [piece for piece, _ in tokenizer.split(value)] if isinstance(value, str) else value:
            form = forms.get(token)
            if form is None:
                form = forms[token] = tokenizer.normalize(token)
            found.append(form)
    return found


def _skew(examples: list[Example], tokenizer: Tokenizer) -> str | None:
    """A note on tokenised data with other tokens than the tokenizer finds in raw text; None without differences."""
    words = {token for example in examples if not isinstance(example.value, str) for token in example.value}
    cut = sorted(word for word in words if len(tokenizer.split(word)) != 1)
    if not cut:
        return None
    shown = ", ".join(
        f"{word} → {' '.join(piece for piece, _ in tokenizer.split(word)) or 'nothing'}" for word in cut[:3]
    )
    return (
        f"note: {len(cut):,} of {len(words):,} different tokens are cut up in raw text ({shown}): where that matters, "
        "send the service tokens, or label tokens like its own"
    )


def _parameters(network: Network) -> int:
    return sum(each.numel() for name, each in network.named_parameters() if not name.endswith(".learned"))
