"""Word vectors of a bundle, for a training from nothing.

A few hundred sentences teach few words. Below `FEW` examples a training that names no vectors begins with those of the
model that ships for its task, if they know the words of its data. The card then names that model and its licence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import BundleError
from service.model.bundle import Bundle, Task
from service.model.tokenizer import UNKNOWN
from training.data import vectors
from training.data.vectors import Vectors
from training.errors import TrainingError
from training.export import restore
from training.options import FEW, NO_VECTORS, NOT_STATED, FitOptions

SHIPPED: dict[Task, str] = {"sentiment": "sentiment-bilstm", "ner": "ner-bilstm"}
"""The bundles whose word vectors are taken by default."""
FOLDER = Path(__file__).parents[1] / "models"
"""The models of this checkout. Those beside --out come first."""
_FITS = 0.5
"""The share of the data's different words that must have a vector: of another language, far fewer have one."""


@dataclass(frozen=True, slots=True)
class Lent:
    """Word vectors to begin with. `bundle` is None for those of a file."""

    vectors: Vectors
    bundle: Bundle | None = None

    @property
    def origins(self) -> list[str]:
        """A line for the card, if they are a bundle's."""
        return [f"word vectors of {described(self.bundle)}"] if self.bundle else []

    def licence(self, own: str) -> str:
        """The licence of what a training makes of them: that of its data, and the bundle's."""
        return joined(own, "word vectors of", self.bundle) if self.bundle else own


def described(bundle: Bundle) -> str:
    """A bundle for a card: its name, the SHA-256 of its manifest, and what it learned from."""
    learned = "; ".join(bundle.manifest.origin.data)
    return f"{named(bundle)} (SHA-256 of its model.json: {bundle.digest}), which learned from {learned}"


def named(bundle: Bundle) -> str:
    return f"{bundle.name} version {bundle.version}"


def joined(own: str, taken: str, bundle: Bundle) -> str:
    """A licence for the card: that of the data, and that of the bundle of which something was taken."""
    first = "licence of the data not stated" if own == NOT_STATED else own
    return f"{first}; {taken} {named(bundle)}: {bundle.manifest.licence}"


def chosen(
    options: FitOptions,
    examples: int,
    tokens: Sequence[str],
    normalize: Callable[[str], str],
    tell: Callable[[str], None],
) -> Lent | None:
    """The vectors to begin with: those of `options.vectors`, else a shipped model's for few examples, else None.

    `tokens` are the training data's, normalised. `tell` gets a line on a shipped model that is taken, or that does not
    fit. Raises `CorpusError` for an unreadable file, `BundleError` or `TrainingError` for an unusable bundle.
    """
    if options.vectors == NO_VECTORS:
        return None
    if options.vectors is not None:
        return named_by(options.vectors, normalize)
    name = SHIPPED[options.task]
    if examples >= FEW or options.out.name == name or (bundle := _found(options, name)) is None:
        return None
    lent, words = Lent(_table(bundle), bundle), set(tokens) - {UNKNOWN}
    share = len(words & set(lent.vectors.words)) / max(1, len(words))
    if share < _FITS:
        tell(
            f"note: few examples, and {named(bundle)} knows {share:.0%} of their words: its word vectors are not "
            "taken. --vectors FILE names others"
        )
        return None
    tell(
        f"NOTE: few examples: the word table begins with the vectors of {named(bundle)} (--vectors "
        f"models/{bundle.name}/{bundle.version}). The new model then comes under its licence too: "
        f"{bundle.manifest.licence}. --vectors none takes none"
    )
    return lent


def named_in(options: FitOptions, lent: Lent | None) -> FitOptions:
    """The options with the vectors that were chosen by default named in them, and in the command that repeats them."""
    if lent is None or lent.bundle is None or options.vectors is not None:
        return options
    named = f" --vectors models/{lent.bundle.name}/{lent.bundle.version}" if options.command else ""
    return options.but(vectors=lent.bundle.path, command=options.command + named)


def named_by(path: Path, normalize: Callable[[str], str]) -> Lent:
    """The vectors of a file, or of a bundle's folder; words with the same normalised form are one."""
    if not path.is_dir():
        return Lent(vectors.load(path).merged(normalize))
    bundle = restore.opened(path)
    if bundle.manifest.precision != "float32":
        raise TrainingError(f"--vectors: {named(bundle)} is {bundle.manifest.precision}: name the float32 bundle of it")
    return Lent(_table(bundle), bundle)


def _found(options: FitOptions, name: str) -> Bundle | None:
    """The shipped bundle: beside --out, or in this checkout. An unusable one counts as none."""
    for folder in (options.out.parent, FOLDER):
        try:
            bundle = restore.opened(folder / name)
        except BundleError:
            continue
        if bundle.manifest.precision == "float32":
            return bundle
    return None


def _table(bundle: Bundle) -> Vectors:
    """The rows of a bundle's word table, without the unknown word."""
    rows = restore.vocabulary(bundle)
    words = sorted(rows.keys() - {UNKNOWN}, key=rows.__getitem__)
    table = restore.word_table(bundle)
    return Vectors(words, table[[rows[word] for word in words]])
