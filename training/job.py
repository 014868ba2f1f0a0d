"""One training job from files to bundle: read, encode, train, export, score."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from service.bundle import (
    FILES,
    MAX_BYTES,
    Bundle,
    CharacterNetwork,
    Feature,
    FeatureName,
    Head,
    Health,
    Origin,
    Score,
    Task,
    check_name,
)
from service.engine import Engine
from service.equations import CellName, Direction, GruReset
from service.tasks import decoder
from service.text import CHARACTERS, SHAPES, Tokenizer, build
from training import checkpoints, pretrain, vectors, vocabulary
from training.batches import Sample, encode
from training.checkpoints import Checkpoints
from training.corpora import Example, check_labels, labels, read
from training.evaluate import Corpus, best_temperature, corpus, corpus_name, decoder_of, measure, of_network
from training.export import TOKEN_LIMIT, export
from training.fit import Outcome, Progress, Recipe, fit, seed_everything
from training.health import measure as gate_health
from training.initial import Initial
from training.logs import Log, Write, tensorboard, together
from training.networks import EMBEDDING_SIZES, Architecture, Dropouts, Network, WordBits

_FEATURES: dict[Task, tuple[FeatureName, ...]] = {
    "sentiment": ("word",),
    "ner": ("word", "shape", "prefix", "suffix"),
}
_BUCKETS = 2048
_CHARACTER_COLUMNS = 20
_PACKAGES = ("torch", "onnx", "onnxruntime", "tokenizers", "numpy")


class TrainingError(Exception):
    """A training that came to nothing."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to train, on which files, and where the bundle goes (`out` is its folder, ``models/NAME``)."""

    task: Task
    cell: CellName
    directions: tuple[Direction, ...]
    layers: int
    hidden: int
    head: Head
    train: tuple[Path, ...]
    dev: tuple[Path, ...]
    test: tuple[Path, ...]
    vectors: Path | None
    start: Path | None
    """A pretrained encoder (``training pretrain``), which brings its own words; sentiment only."""
    words: int
    word_bits: WordBits
    characters: CharacterNetwork | None
    crf: bool
    dropout: float
    word_dropout: float
    recipe: Recipe
    device: str
    out: Path
    licence: str
    command: str
    """The command that repeats the job, for the manifest and the card."""
    gru_reset: GruReset = "after"
    embedding_dropout: float | None = None
    """None for the same as `dropout`."""
    weight_drop: float = 0.0
    locked: bool = True
    initial: Initial | None = None
    checkpoint_every: int = 0
    """Steps from one checkpoint to the next, below `out`; there is one after each epoch too. 0 for none."""
    resume: bool = False
    log: Path | None = None
    tensorboard: Path | None = None

    @property
    def dropouts(self) -> Dropouts:
        embeddings = self.dropout if self.embedding_dropout is None else self.embedding_dropout
        return Dropouts(embeddings, self.dropout, self.weight_drop, self.locked)


def run(job: Job, tell: Callable[[str], None], report: Callable[[Progress], None]) -> tuple[Bundle, Outcome]:
    """Run a job. `tell` gets a line on each stage, `report` the loop's progress.

    Raises `TrainingError` when it was interrupted before there was a model, `CorpusError` for data that cannot be used,
    `BundleError` for a name that cannot be one, or graphs that do not agree with torch.
    """
    check_name(job.out.name)
    device = torch.device(job.device)
    seed_everything(job.recipe.seed)
    parts = [(path, read(path, job.task)) for path in job.train]
    examples = list(chain.from_iterable(part for _, part in parts))
    names = labels(examples, job.task, job.train[0])
    for path in (*job.dev, *job.test):
        check_labels(names, read(path, job.task), path)
    network, tokenizer = _network(job, examples, names)
    if skew := _skew(examples, tokenizer):
        tell(skew)
    samples = encode(examples, tokenizer, names)
    dev, test = ([_corpus(job, path, names, tokenizer) for path in paths] for paths in (job.dev, job.test))
    tokens = sum(len(sample.rows) for sample in samples)
    tell(f"train: {len(samples):,} examples, {tokens:,} tokens; {', '.join(f'{d.name}: {len(d.gold):,}' for d in dev)}")
    words = network.architecture.features[0].size
    tell(f"labels: {', '.join(names)}; {words:,} words; {_parameters(network):,} weights")

    def score(trained: Network) -> float:
        predict, decode = of_network(trained, device), decoder_of(trained)
        return float(np.mean([measure(predict, each, decode).headline for each in dev]))

    job.out.mkdir(parents=True, exist_ok=True)  # where this fails it had better be before the training
    network.learn(1 + max(int(sample.rows[:, 0].max()) for sample in samples))
    outcome = _train(job, network, samples, score, tell, report)
    if outcome.diverged:
        tell(f"the loss is no number any more (in epoch {outcome.epochs}): a lower --learning-rate or --clip may help")
        if outcome.best is None:
            raise TrainingError("the training diverged in its first epoch: there is no model, nothing is written")
    if outcome.interrupted and outcome.best is None:
        raise TrainingError(
            "interrupted before the first epoch was finished: there is no model yet, nothing is written"
        )
    tell("interrupted: exporting the best model so far" if outcome.interrupted else "exporting")

    warmth = best_temperature(network, dev) if dev else 1.0

    def figures(bundle: Bundle) -> list[Score]:
        engine, decode = Engine(bundle), decoder(job.task, names, bundle.manifest.crf)
        return [each for data in (*dev, *test) for each in measure(engine.predict, data, decode).scores()]

    def gates(bundle: Bundle) -> Health:
        return gate_health(bundle, Engine(bundle), [source.rows for source in dev[0].encoded], dev[0].name)

    origin = Origin(
        data=tuple(f"{corpus_name(path)}: {len(part):,} examples" for path, part in parts),
        command=job.command,
        seed=job.recipe.seed,
        epochs=outcome.epochs,
        versions={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
    )
    made = export(network, tokenizer, origin, job.licence, job.out, figures, gates, warmth)
    _forget(job, outcome)
    size = sum(made.file(name).stat().st_size for name in FILES)
    if size > MAX_BYTES:
        tell(f"note: the bundle has {size / 1e6:.1f} MB; those that ship have at most {MAX_BYTES / 1e6:.0f}")
    return made, outcome


def _train(
    job: Job,
    network: Network,
    samples: list[Sample],
    score: Callable[[Network], float],
    tell: Callable[[str], None],
    report: Callable[[Progress], None],
) -> Outcome:
    """Train from the beginning, or from the last checkpoint on, with the logs that were asked for."""
    kept, state = None, None
    if job.checkpoint_every:
        kept = Checkpoints(job.out, _settings(job, network, samples), job.checkpoint_every)
        if job.resume:
            state = kept.load()
            where = f"after step {state['step']:,}" if state else "from the beginning: there is no checkpoint"
            tell(f"resuming {where}")
        elif kept.file.exists():
            tell("note: the checkpoint of another training is replaced; --resume would have continued that one")
    elif job.resume:
        raise TrainingError("there is nothing to resume without checkpoints: --checkpoint-every is 0")
    step, closing = state["step"] if state else 0, ExitStack()
    with closing:
        writes: list[Write] = []
        if job.log:
            log = Log(job.log, step)
            closing.callback(log.close)
            writes.append(log)
        if job.tensorboard:
            write, close = tensorboard(job.tensorboard, step)
            closing.callback(close)
            writes.append(write)
        return fit(network, samples, job.recipe, score, report, torch.device(job.device), kept, state, together(writes))


def _forget(job: Job, outcome: Outcome) -> None:
    """A training that ended by itself has nothing to resume; one that was interrupted has."""
    if job.checkpoint_every and not outcome.interrupted:
        (job.out / checkpoints.FILE).unlink(missing_ok=True)


def _settings(job: Job, network: Network, samples: list[Sample]) -> dict[str, object]:
    """Everything that must be the same for a resumed training to give the undisturbed one's model."""
    seen = sha256()
    for sample in samples:
        seen.update(sample.rows.tobytes() + sample.targets.tobytes())
    shape = {field.name: getattr(network.architecture, field.name) for field in fields(network.architecture)}
    return {
        **{f"recipe.{name}": value for name, value in asdict(job.recipe).items()},
        **{f"network.{name}": str(value) for name, value in shape.items()},
        **{f"dropout.{name}": value for name, value in asdict(job.dropouts).items()},
        "word_dropout": job.word_dropout,
        "device": job.device,
        "dev": [str(path) for path in job.dev],
        "training data": seen.hexdigest(),
        "torch": importlib.metadata.version("torch"),
    }


def _corpus(job: Job, path: Path, names: tuple[str, ...], tokenizer: Tokenizer) -> Corpus:
    return corpus(path, job.task, names, tokenizer, TOKEN_LIMIT)


def _network(job: Job, examples: list[Example], names: tuple[str, ...]) -> tuple[Network, Tokenizer]:
    """An untrained network and the tokenizer that its embeddings belong to."""
    blank = build(["<unk>"], [])
    if job.start:
        return _pretrained(job, job.start, names)
    loaded = vectors.load(job.vectors).merged(blank.normalize) if job.vectors else None
    size = loaded.size if loaded else EMBEDDING_SIZES["word"]
    if job.word_bits == 4 and size % 2:
        raise TrainingError(f"two numbers share a byte: 4 bits need word vectors of an even size, not {size}")
    words = vocabulary.choose(_words(examples, blank), loaded, job.words)
    sizes: dict[FeatureName, int] = {"word": len(words), "shape": SHAPES, "prefix": _BUCKETS, "suffix": _BUCKETS}
    features = tuple(Feature(name=name, size=sizes[name]) for name in _FEATURES[job.task])
    if job.characters:
        # Characters tell more than their hashed ends do.
        features = tuple(feature for feature in features if feature.name in ("word", "shape"))
        features += (Feature(name="character", size=CHARACTERS, columns=_CHARACTER_COLUMNS),)
    shape = Architecture(
        task=job.task,
        cell=job.cell,
        directions=job.directions,
        layers=job.layers,
        hidden=job.hidden,
        head=job.head,
        labels=names,
        features=features,
        word_size=size,
        reset=job.gru_reset,
        characters=job.characters,
        crf=job.crf,
        word_bits=job.word_bits,
    )
    network = Network(shape, 0.0, job.word_dropout, job.dropouts, job.initial)
    if loaded:
        table = vocabulary.initial_table(words, loaded, np.random.default_rng(job.recipe.seed))
        network.embeddings["word"].weight.data = torch.from_numpy(table)
    return network, build(words, features)


def _pretrained(job: Job, start: Path, names: tuple[str, ...]) -> tuple[Network, Tokenizer]:
    """A network that begins with a pretrained encoder, and the tokenizer of that encoder's words."""
    words, size = pretrain.table_of(start)
    features = (Feature(name="word", size=len(words)),)
    shape = Architecture(
        job.task, job.cell, job.directions, job.layers, job.hidden, job.head, names, features, size, job.gru_reset
    )
    network = Network(replace(shape, word_bits=job.word_bits), 0.0, job.word_dropout, job.dropouts, job.initial)
    pretrain.start(network, start)
    return network, build(words, features)


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
    """What to know of tokenised data whose tokens are not those that the tokenizer finds in raw text."""
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
