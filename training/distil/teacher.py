"""A teacher: a sentence encoder from a local transformers folder, fine-tuned to tell sentiment.

Its logits are a linear layer over the mean of the encoder's last states. Word embeddings stay as they came. The
package transformers is an extra (``distil``) and is imported when a teacher is made or read.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.data.batches import plan
from training.distil.mixture import LABELS, Drawn
from training.errors import TrainingError
from training.loop.checkpoints import Checkpoints

HEAD = "head.safetensors"
"""The linear layer's file, beside the encoder's own in a teacher's folder."""
_NEUTRAL = LABELS.index("neutral")
_EXCLUDED = -1e4
"""The logit of a label that a row's file does not know."""
_WARM_UP = 0.06


@dataclass(frozen=True, slots=True)
class Tuning:
    """Every setting of the fine-tuning; one pass over the rows drawn, or less."""

    steps: int | None = None
    """Batches of the pass that are read, at most; None for all."""

    learning_rate: float = 6e-5
    """AdamW's at its height: it rises in a straight line over 6 % of the steps and falls in one to 0."""
    batch_rows: int = 64
    batch_pieces: int = 2048
    """Padded word pieces of a batch, at most."""
    dropout: float = 0.1
    clip: float = 1.0
    seed: int = 1


class Teacher(nn.Module):
    """ids, mask [rows, pieces] → logits [rows, labels]."""

    def __init__(self, encoder: nn.Module, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder, self.dropout, self.head = encoder, nn.Dropout(dropout), nn.Linear(width, len(LABELS))
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()  # (B, T, H)
        held = mask[..., None].float()
        pooled = (states * held).sum(1) / held.sum(1)  # (B, H)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits


class Reader:
    """Texts to word pieces, between the encoder's first and last marks, as its own tokenizer has them."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = _transformers().AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.longest = int(min(self.tokenizer.model_max_length, 512))
        marked, bare = (self.tokenizer("a", add_special_tokens=each)["input_ids"] for each in (True, False))
        start = marked.index(bare[0])
        self._before, self._behind = marked[:start], marked[start + len(bare) :]

    def __call__(self, texts: Sequence[str], most: Sequence[int] | int, seed: int | None = None) -> list[list[int]]:
        """Piece numbers of each text, at most `most` of them: the head, or with a `seed` a random run."""
        found = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        generator = np.random.default_rng(seed) if seed is not None else None
        limits = [most] * len(texts) if isinstance(most, int) else most
        read = []
        for pieces, limit in zip(found, limits, strict=True):
            room = min(limit, self.longest) - len(self._before) - len(self._behind)
            start = int(generator.integers(len(pieces) - room + 1)) if generator and len(pieces) > room else 0
            read.append([*self._before, *pieces[start : start + room], *self._behind])
        return read


def _transformers() -> Any:
    if importlib.util.find_spec("transformers") is None:
        raise TrainingError("a teacher needs the extra distil: pip install --constraint constraints.txt '.[distil]'")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a teacher is a local folder: nothing is looked up
    import transformers

    return transformers


def fresh(folder: Path, dropout: float) -> Teacher:
    """A teacher to be fine-tuned, over the encoder in a local transformers folder. Raises `TrainingError`."""
    try:
        encoder = _transformers().AutoModel.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{folder} holds no encoder that transformers can read: {error}") from error
    for table in encoder.get_input_embeddings().parameters():
        table.requires_grad_(False)
    return Teacher(encoder, encoder.config.hidden_size, dropout)


def load(folder: Path) -> tuple[Teacher, Reader]:
    """A teacher that `save` wrote, ready to answer. Raises `TrainingError`."""
    teacher = fresh(folder, 0.0)
    try:
        teacher.head.load_state_dict(load_file(folder / HEAD))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise TrainingError(f"{folder} is no teacher: {HEAD} is missing or does not fit: {error}") from error
    return teacher.eval(), Reader(folder)


def save(teacher: Teacher, reader: Reader, folder: Path) -> None:
    """Write a teacher as a transformers folder with the head beside it."""
    encoder: Any = teacher.encoder
    encoder.save_pretrained(folder)
    reader.tokenizer.save_pretrained(folder)
    save_file({name: each.contiguous() for name, each in teacher.head.state_dict().items()}, folder / HEAD)


def tune(
    teacher: Teacher,
    reader: Reader,
    rows: Sequence[Drawn],
    tuning: Tuning,
    checkpoints: Checkpoints,
    resume: bool,
    report: Callable[[int, int, float], None],
) -> None:
    """Fine-tune in place, in one pass over `rows`. `report` gets the step, the number of steps and the mean loss.

    A training that was killed goes on from its last checkpoint with `resume`, and sees the same batches.
    """
    torch.manual_seed(tuning.seed)
    pieces = reader([row.text for row in rows], [row.pieces for row in rows], tuning.seed)
    generator = np.random.default_rng(tuning.seed)
    batches = plan([len(each) for each in pieces], tuning.batch_rows, tuning.batch_pieces, generator)[: tuning.steps]
    trained = [each for each in teacher.parameters() if each.requires_grad]
    shrinking, staying = [each for each in trained if each.ndim > 1], [each for each in trained if each.ndim < 2]
    groups = [{"params": shrinking, "weight_decay": 0.01}, {"params": staying, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, tuning.learning_rate)
    done, mean = 0, 0.0
    if resume and (state := checkpoints.load()):
        teacher.load_state_dict(state["teacher"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        done, mean = state["done"], state["mean"]
    teacher.train()
    for step, positions in enumerate(batches[done:], done + 1):
        share = (step - 1) / len(batches)
        for group in optimizer.param_groups:
            group["lr"] = tuning.learning_rate * min(1.0, (share + 1 / len(batches)) / _WARM_UP) * (1 - share)
        loss = _loss(teacher, [pieces[each] for each in positions], [rows[each] for each in positions])
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(trained, tuning.clip)
        optimizer.step()
        mean += (float(loss.detach()) - mean) / min(step, 200)
        report(step, len(batches), mean)
        if step % checkpoints.every == 0:
            standing = {"teacher": teacher.state_dict(), "optimizer": optimizer.state_dict()}
            checkpoints.save({**standing, "random": torch.get_rng_state(), "done": step, "mean": mean})
    teacher.eval()


def _loss(teacher: Teacher, pieces: Sequence[Sequence[int]], rows: Sequence[Drawn]) -> Tensor:
    logits = _logits(teacher, pieces)
    binary = torch.tensor([not row.neutral for row in rows])  # (B)
    neutral = torch.arange(len(LABELS)) == _NEUTRAL
    logits = logits.masked_fill(binary[:, None] & neutral, _EXCLUDED)
    return nn.functional.cross_entropy(
        logits, torch.tensor([row.label for row in rows])
    )  # every row has a label: `taught`


def _logits(teacher: Teacher, pieces: Sequence[Sequence[int]]) -> Tensor:
    longest = max(map(len, pieces))
    ids = torch.zeros(len(pieces), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, each in enumerate(pieces):
        ids[row, : len(each)], mask[row, : len(each)] = torch.tensor(each), 1
    with torch.autocast("cpu", torch.bfloat16, enabled=torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        answer: Tensor = teacher(ids, mask)
    return answer.float()


def answer(
    teacher: Teacher, reader: Reader, texts: Sequence[str], pieces: int = 256, rows: int = 64
) -> NDArray[np.float32]:
    """Logits float32 [texts, labels]; of a text longer than `pieces` word pieces, those of its head."""
    read = reader(texts, pieces)
    logits = np.empty((len(texts), len(LABELS)), np.float32)
    for positions in plan([len(each) for each in read], rows, rows * 64, None):
        with torch.inference_mode():
            logits[positions] = _logits(teacher, [read[each] for each in positions]).numpy()
    return logits


def described(tuning: Tuning, mixture: Path, base: Path) -> dict[str, object]:
    """Everything that must be the same for a training to be continued."""
    return {**asdict(tuning), "mixture": mixture.read_text(encoding="utf-8"), "base": base.name}
