"""Language-model pretraining: the sentiment encoder learns to read text without labels, before it learns to judge it.

The embeddings and the recurrent layers that `fit` starts from (Dai and Le 2015; Howard and Ruder 2018). The forward
reader predicts the next word, the backward reader the one before, each from its own states, over one softmax that both
share (Peters et al. 2018). The softmax is adaptive (Grave et al. 2017): frequent words are cheap.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from service.model.bundle import Feature
from service.model.engine import pad
from service.model.tokenizer import Tokenizer, build
from training.data import vectors, vocabulary
from training.data.batches import plan
from training.data.checks import with_tokens
from training.data.corpora import read
from training.data.outputs import held, naming
from training.data.sources import AS_FOUND, Layout, plain_texts
from training.errors import TrainingError
from training.loop.fit import Progress, seed_everything
from training.loop.threads import flush_denormals
from training.nets.networks import EMBEDDING_SIZES, Architecture, Design, Layer, Network, reversal

_CUTOFFS = (1000, 6000)
"""Ranks of words at which the adaptive softmax begins its cheaper clusters."""
_ENCODER = ("embeddings.", "layers.")
"""Beginnings of the names of those weights that a classifier takes over."""


class PretrainingError(TrainingError):
    """An encoder that cannot be made, or that does not fit the network which should start from it."""


@dataclass(frozen=True, slots=True)
class PretrainRecipe:
    """Every setting of the loop."""

    epochs: int = 4
    learning_rate: float = 2e-3
    """Adam's; it falls to a hundredth along half a cosine."""
    clip: float = 1.0
    window: int = 100
    """Tokens of the runs that texts are cut into; no state is carried from one to the next."""
    batch_rows: int = 64
    dropout: float = 0.2
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Pretraining:
    """The texts to read, the encoder, and the settings."""

    design: Design
    """Design of the classifier that will start from the encoder."""
    texts: tuple[Path, ...]
    """Labelled tables, with their labels ignored, or plain text with one text in each line (``.txt``, ``.txt.gz``)."""
    dev: tuple[Path, ...]
    vectors: Path | None
    words: int
    recipe: PretrainRecipe
    layout: Layout = AS_FOUND
    """Columns of the texts and the labels in the tables."""


class LanguageModel(nn.Module):
    """tokens, lengths → the loss of each word that is predicted, [predictions]."""

    def __init__(self, architecture: Architecture, dropout: float) -> None:
        super().__init__()
        (word,) = architecture.features
        size = architecture.size(word)
        self.embeddings = nn.ModuleDict({"word": nn.Embedding(word.size, size)})
        self.layers = nn.ModuleList()
        width = size
        for _ in range(architecture.layers):
            self.layers.append(Layer(architecture, width))
            width = architecture.hidden
        self.dropout = nn.Dropout(dropout)
        self.projections = nn.ModuleList(nn.Linear(architecture.hidden, size) for _ in architecture.directions)
        cutoffs = [cutoff for cutoff in _CUTOFFS if cutoff < word.size - 1]
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(size, word.size, cutoffs or [max(1, word.size // 2)])

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """tokens int [batch, time], lengths int [batch]. Every token but a row's first is predicted by the forward
        reader, every one but its last by the backward reader."""
        hidden, wanted = [], []
        for way, projection in enumerate(self.projections):
            ids = tokens if way == 0 else tokens.gather(1, reversal(lengths, tokens.shape[1]))
            states = self._read(ids, way)[:, :-1]
            predicted = torch.arange(1, ids.shape[1], device=ids.device) < lengths[:, None]
            hidden.append(projection(states[predicted]))
            wanted.append(ids[:, 1:][predicted])
        losses: Tensor = -self.softmax(self.dropout(torch.cat(hidden)), torch.cat(wanted)).output
        return losses

    def _read(self, ids: Tensor, way: int) -> Tensor:
        """One reader's states [batch, time, units], left to right."""
        states: Tensor = self.dropout(self.embeddings["word"](ids))
        for layer in self.layers:
            assert isinstance(layer, Layer)
            states = self.dropout(layer.directions()[way](states))
        return states


def run(job: Pretraining, out: Path, tell: Callable[[str], None], report: Callable[[Progress], None]) -> float | None:
    """Train a language model and write its encoder to `out`. Returns the perplexity a word on `dev`, if there is one.

    Raises `PretrainingError`, `CorpusError` for files that cannot be read, and `BlockingIOError` if another process
    writes `out`.
    """
    with held(out):
        return _run(job, out, tell, report)


def _run(job: Pretraining, out: Path, tell: Callable[[str], None], report: Callable[[Progress], None]) -> float | None:
    if len(job.design.directions) == 2 and job.design.layers > 1:
        raise PretrainingError(
            "a second layer over two directions would see the very words that it has to predict: pretrain one layer, "
            "or one direction"
        )
    flush_denormals()
    seed_everything(job.recipe.seed)
    texts, words, table = _prepare(job, tell)
    tokenizer = build(words, [Feature(name="word", size=len(words))])
    held_out = [text for path in job.dev for text in _texts(path, job.layout, tell)]
    runs = _runs("--texts", texts, tokenizer, tell)
    held = _runs("--dev", held_out, tokenizer, tell) if held_out else []
    tell(f"{len(runs):,} texts, {sum(map(len, runs)):,} tokens, {len(words):,} words")
    size = table.shape[1] if table is not None else EMBEDDING_SIZES["word"]
    features = (Feature(name="word", size=len(words)),)
    shape = Architecture.of(job.design, (), features, size)
    model = LanguageModel(shape, job.recipe.dropout)
    if table is not None:
        word_table = model.embeddings["word"]
        assert isinstance(word_table, nn.Embedding)
        word_table.weight.data = torch.from_numpy(table)
    reached: float | None = None
    generator = np.random.default_rng(job.recipe.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=job.recipe.learning_rate)
    for epoch in range(1, job.recipe.epochs + 1):
        _epoch(model, runs, job, epoch, optimizer, generator, report)
        if held:
            reached = perplexity(model, held, job)
            tell(f"epoch {epoch}: perplexity on dev {reached:.1f}")
        save(out, model, words, job)  # each epoch's, so that a run which is cut short leaves its best so far
    return reached


def save(out: Path, model: LanguageModel, words: Sequence[str], job: Pretraining) -> None:
    """Write the encoder's weights. The metadata has the words of its table and its settings."""
    weights = {name: each.contiguous() for name, each in model.state_dict().items() if name.startswith(_ENCODER)}
    design = job.design
    made: dict[str, object] = {"cell": design.cell, "gru_reset": design.gru_reset, "peepholes": design.peepholes}
    made |= {"directions": design.directions, "words": len(words)}
    made |= asdict(job.recipe)
    metadata = {"words": json.dumps(list(words)), "made": json.dumps(made)}
    partial = out.with_name(out.name + ".part")
    with naming(out):
        save_file(weights, partial, metadata)
        partial.replace(out)


def table_of(path: Path) -> tuple[list[str], int]:
    """The words of an encoder's table, by row, and its columns. Raises `PretrainingError`."""
    try:
        with safe_open(path, framework="pt") as file:
            words: list[str] = json.loads((file.metadata() or {})["words"])
            return words, int(file.get_slice("embeddings.word.weight").get_shape()[1])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise PretrainingError(f"{path}: not an encoder that `training pretrain` wrote ({error})") from error


def start(network: Network, path: Path) -> None:
    """Give a network the weights of a pretrained encoder; its head stays as it is. Raises `PretrainingError`."""
    own = network.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in own.items() if name.startswith(_ENCODER)}
    with safe_open(path, framework="pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
        if found != expected:
            different = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
            raise PretrainingError(
                f"{path}: the encoder is of another cell, size or number of directions: "
                + "; ".join(f"{name} {found.get(name)}, needed {expected.get(name)}" for name in different[:3])
            )
        network.load_state_dict({**own, **{name: file.get_tensor(name) for name in found}})


def perplexity(model: LanguageModel, runs: Sequence[NDArray[np.int64]], job: Pretraining) -> float:
    """e to the mean loss a predicted word; texts cut into runs as in training."""
    model.eval()
    total = count = 0.0
    with torch.inference_mode():
        for tokens, lengths in _batches(_cut(runs, job.recipe.window, 0), job.recipe.batch_rows, None):
            losses = model(tokens, lengths)
            total, count = total + float(losses.sum()), count + losses.numel()
    return math.exp(total / max(1.0, count))


def _epoch(
    model: LanguageModel,
    runs: Sequence[NDArray[np.int64]],
    job: Pretraining,
    epoch: int,
    optimizer: torch.optim.Optimizer,
    generator: np.random.Generator,
    report: Callable[[Progress], None],
) -> None:
    model.train()
    cut = _cut(runs, job.recipe.window, int(generator.integers(job.recipe.window)))
    batches = list(_batches(cut, job.recipe.batch_rows, generator))
    mean = 0.0
    for number, (tokens, lengths) in enumerate(batches, 1):
        progress = (epoch - 1 + number / len(batches)) / job.recipe.epochs
        for group in optimizer.param_groups:
            group["lr"] = job.recipe.learning_rate * max(0.01, 0.5 * (1 + math.cos(math.pi * progress)))
        optimizer.zero_grad(set_to_none=True)
        loss = model(tokens, lengths).mean()
        if not math.isfinite(loss.item()):
            raise PretrainingError(f"the loss is no number any more (epoch {epoch}): lower --learning-rate")
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), job.recipe.clip)
        optimizer.step()
        mean += (loss.item() - mean) / number
        report(Progress(epoch, number, len(batches), mean, epochs=job.recipe.epochs))


def _prepare(
    job: Pretraining, tell: Callable[[str], None]
) -> tuple[list[str | Sequence[str]], list[str], NDArray[np.float32] | None]:
    """The texts, the words with a row by falling frequency, and the first values of the rows."""
    texts = [text for path in job.texts for text in _texts(path, job.layout, tell)]
    blank = build(["<unk>"], [])
    loaded = vectors.load(job.vectors).merged(blank.normalize) if job.vectors else None
    words = vocabulary.choose(
        (blank.normalize(token) for text in texts for token in _tokens(text, blank)), loaded, job.words
    )
    table = vocabulary.initial_table(words, loaded, np.random.default_rng(job.recipe.seed)) if loaded else None
    return texts, words, table


def _texts(path: Path, layout: Layout, tell: Callable[[str], None]) -> list[str | Sequence[str]]:
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    plain = suffixes[-1:] == [".txt"]
    examples = plain_texts(path) if plain else read(path, "sentiment", layout, tell)
    return [example.value for example in with_tokens(path, examples, build(["<unk>"], []), tell)]


def _runs(
    option: str, texts: Sequence[str | Sequence[str]], tokenizer: Tokenizer, tell: Callable[[str], None]
) -> list[NDArray[np.int64]]:
    """The texts in numbers. `tell` gets a line on texts of one token. Raises `PretrainingError` if all are."""
    runs = [_ids(text, tokenizer) for text in texts]
    kept = [each for each in runs if len(each) > 1]
    if not kept:
        raise PretrainingError(
            f"{option}: none of the {len(runs):,} texts has two tokens: a language model predicts a token from another"
        )
    if len(kept) < len(runs):
        tell(f"note: {option}: {len(runs) - len(kept):,} of {len(runs):,} texts are set aside: they have one token")
    return kept


def _tokens(text: str | Sequence[str], tokenizer: Tokenizer) -> list[str]:
    return [token for token, _ in tokenizer.split(text)] if isinstance(text, str) else list(text)


def _ids(text: str | Sequence[str], tokenizer: Tokenizer) -> NDArray[np.int64]:
    return tokenizer.rows(_tokens(text, tokenizer))[:, 0].astype(np.int64)


def _cut(runs: Sequence[NDArray[np.int64]], window: int, offset: int) -> list[NDArray[np.int64]]:
    """Texts as runs of at most `window` tokens, the first cut after `offset`; a run of one token predicts nothing."""
    cut = []
    for run_ in runs:
        edges = [0, *range(offset or window, len(run_), window), len(run_)]
        cut += [run_[begin:end] for begin, end in pairwise(edges) if end - begin > 1]
    return cut


def _batches(
    runs: Sequence[NDArray[np.int64]], rows: int, generator: np.random.Generator | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """tokens [batch, time] and lengths [batch], rows of like length together."""
    for positions in plan([len(each) for each in runs], rows, rows * 4096, generator):
        tokens, lengths = pad([runs[position][:, None].astype(np.int32) for position in positions])
        yield torch.from_numpy(tokens[:, :, 0].astype(np.int64)), torch.from_numpy(lengths.astype(np.int64))
