"""Fine-tuning: a training that goes on from a bundle, with labels of one's own.

The word table, the other embeddings, the character network, the recurrent layers and the rules for raw text are the
bundle's. A style that cuts as the bundle's does may take its place: numbers then begin as the bundle read them. Rows of
the head, and of the CRF, go on for the labels that the bundle has; other labels get new ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.numpy import load_file

from service.model.bundle import TOKENIZER, WEIGHTS, Bundle
from service.model.rules import UNKNOWN, Style
from service.model.tokenizer import Tokenizer, build
from training.data.sources import few
from training.errors import TrainingError
from training.export import restore
from training.export.onnx.embedding import FINE_ROWS, unpackable
from training.nets.networks import Architecture, Network, Table
from training.options import NOT_STATED, FitOptions
from training.shipped import described, named

_CUT_ALIKE: Mapping[object, tuple[Style, ...]] = {"web": ("reviews",)}
"""Styles that `--tokenizer` may ask for in place of a bundle's: those that differ in the digits of numbers alone."""
_OWN = ("embeddings.word.", "head.", "crf.")
"""Beginnings of the names of those weights whose rows are chosen one by one."""


@dataclass(frozen=True, slots=True)
class Parent:
    """The bundle that a training goes on from, its network in evaluation mode, and the row of each word of its
    table, by row."""

    bundle: Bundle
    network: Network
    rows: dict[str, int]
    style: Style

    @property
    def name(self) -> str:
        return named(self.bundle)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.bundle.manifest.labels

    @property
    def origin(self) -> str:
        """A line for the card: the bundle, the SHA-256 of its manifest, and what it learned from."""
        return f"began from {described(self.bundle)}"

    def licence(self, own: str) -> str:
        """The licence of what the training makes: that of the new data, and the bundle's."""
        new = "licence of the further data not stated" if own == NOT_STATED else own
        return f"{new}; began from {self.name}: {self.bundle.manifest.licence}"


def resolved(options: FitOptions) -> FitOptions:
    """The options, with the network of the bundle that `--start` names; unchanged where it names none.

    Raises `TrainingError` for given options that contradict the bundle, `BundleError` where there is none.
    """
    if options.start is None or not options.starts_from_a_bundle:
        return options
    bundle = restore.opened(options.start)
    manifest, name = bundle.manifest, f"{bundle.name} version {bundle.version}"
    if manifest.precision != "float32":
        raise TrainingError(
            f"--start: {name} is {manifest.precision}, which keeps less than a training needs: start from the float32 "
            "bundle that it came from"
        )
    found = _design(bundle)
    if options.tokenizer in _CUT_ALIKE.get(found["tokenizer"], ()):
        found["tokenizer"] = options.tokenizer
    against = [
        f"it has {_option(key, value)}, and {_option(key, getattr(options, key))} was asked for"
        for key, value in found.items()
        if key in options.model_fields_set and getattr(options, key) not in (value, None)
    ]
    if against:
        raise TrainingError(
            f"--start: {name} does not fit: {'; '.join(against)}. Leave out what its network has anyway, or start from "
            "another model"
        )
    bits = restore.architecture(bundle, load_file(bundle.file(WEIGHTS))).word_bits
    kept = {} if "word_bits" in options.model_fields_set else {"word_bits": bits}
    return options.but(**found, **kept, start=bundle.path)


def parent(options: FitOptions) -> Parent | None:
    """The bundle that `resolved` options start from; None where they start from none."""
    if options.start is None or not options.starts_from_a_bundle:
        return None
    bundle = restore.opened(options.start)
    style = options.tokenizer or Tokenizer.load(bundle.file(TOKENIZER), bundle.manifest.features).style
    rows = sorted(restore.vocabulary(bundle).items(), key=lambda pair: pair[1])
    return Parent(bundle, restore.network(bundle), dict(rows), style)


def network(
    options: FitOptions, start: Parent, tokens: Sequence[str], names: tuple[str, ...], tell: Callable[[str], None]
) -> tuple[Network, Tokenizer]:
    """The bundle's network with a row for each word of the training data and for each of its labels, and the tokenizer.

    `tokens` are the training data's, normalised. A word that the bundle lacks begins as its unknown word, a number as
    the bundle read it, with 0 for every digit. `tell` gets lines on words and labels.

    Raises `TrainingError` for word vectors that do not go into the bits asked for.
    """
    own = _own(tokens, start, options)
    words = list(dict.fromkeys([*own, *start.rows]))
    most = options.words if "words" in options.model_fields_set else len(words)
    words, old = words[:most], start.network
    if reason := unpackable(options.design.word_bits, old.architecture.word_size):
        raise TrainingError(reason)
    features = tuple(
        each.model_copy(update={"size": len(words)}) if each.name == "word" else each
        for each in old.architecture.features
    )
    shape = Architecture.of(options.design, names, features, old.architecture.word_size)
    made = Network(shape, options.dropouts, options.initial)
    taken = {name: each for name, each in old.state_dict().items() if not name.startswith(_OWN)}
    made.load_state_dict({**made.state_dict(), **taken})
    rows, unknown = start.rows, start.rows.get(UNKNOWN, 0)
    before, table = old.embeddings["word"], made.embeddings["word"]
    assert isinstance(before, Table)
    assert isinstance(table, Table)
    table.weight.data = before.weight.data[[rows.get(word, rows.get(_zeroed(word), unknown)) for word in words]]
    table.fine = _fine(before, rows, own, len(words))
    _keep_labels(made, old)
    lacking = sum(word not in rows and _zeroed(word) not in rows for word in own)
    tell(
        f"begins from {start.name}: {len(own) - 1 - lacking:,} of the training data's {len(own) - 1:,} words have a "
        "vector of it, the others begin as its unknown word"
    )
    if dropped := len(start.rows.keys() - set(words)):
        tell(
            f"note: --words {options.words:,} drops {dropped:,} of the {len(start.rows) - 1:,} words of {start.name}, "
            "the last of its table: the training data's words come first. Without --words all are kept"
        )
    new, gone = (_without(first, second) for first, second in ((names, start.labels), (start.labels, names)))
    if new:
        tell(f"note: {start.name} lacks the labels {few(new)}: they are learned from the beginning")
    if gone:
        tell(f"note: the training data lack the labels {few(gone)} of {start.name}: the new model lacks them too")
    return made, build(words, features, start.style)


def _zeroed(word: str) -> str:
    return re.sub(r"\d", "0", word)


def _design(bundle: Bundle) -> dict[str, Any]:
    """The values that a bundle gives to options."""
    manifest = bundle.manifest
    found = {
        "task": manifest.task,
        "cell": manifest.cell,
        "gru_reset": manifest.gru_reset,
        "peepholes": manifest.form if manifest.cell == "peephole" else None,
        "bidirectional": len(manifest.directions) == 2,
        "window_words": manifest.window_words,
        "layers": manifest.layers,
        "hidden": manifest.hidden,
        "characters": manifest.characters or "none",
        "crf": manifest.crf is not None,
        "tokenizer": Tokenizer.load(bundle.file(TOKENIZER), manifest.features).style,
    }
    return found if manifest.task == "ner" else {**found, "pooling": manifest.head}


def _option(name: str, value: object) -> str:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return flag if value else f"no {flag}"
    return f"{flag} {value}" if value is not None else f"no {flag}"


def _own(tokens: Sequence[str], start: Parent, options: FitOptions) -> list[str]:
    """The words of the training data by falling frequency, behind the unknown word. If not all fit, those go first that
    occur once and that the bundle does not know."""
    counts = Counter(tokens)
    counts.pop(UNKNOWN, None)
    found = sorted(counts, key=lambda word: (-counts[word], word))
    if "words" in options.model_fields_set:
        if len(start.rows.keys() | counts.keys()) >= options.words:
            found = [word for word in found if counts[word] > 1 or word in start.rows]
        found = found[: options.words - 1]
    return [UNKNOWN, *found]


def _fine(before: Table, theirs: Mapping[str, int], own: Sequence[str], rows: int) -> int | None:
    """The first rows of a table in 4 bits that keep 8: the training data's, and behind them those that had 8 before."""
    if before.fine is None or len(own) > FINE_ROWS:
        return None
    others = theirs.keys() - set(own)
    return min(len(own) + sum(theirs[word] < before.fine for word in others), 2 * FINE_ROWS, rows)


@torch.no_grad()
def _keep_labels(made: Network, old: Network) -> None:
    """Copy the rows of the labels that both networks have: of the head, and of the CRF."""
    theirs, ours = old.architecture.labels, made.architecture.labels
    both = [label for label in ours if label in theirs]
    new, was = (torch.tensor([each.index(label) for label in both], dtype=torch.long) for each in (ours, theirs))
    made.head.weight[new] = old.head.weight[was]
    made.head.bias[new] = old.head.bias[was]
    if made.crf is not None and old.crf is not None:
        made.crf.start[new] = old.crf.start[was]
        made.crf.transitions[new[:, None], new] = old.crf.transitions[was[:, None], was]


def _without(labels: Sequence[str], others: Sequence[str]) -> list[str]:
    return [label for label in labels if label not in others]
