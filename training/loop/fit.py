"""The training loop: batches, loss, clipping, schedule, early stopping on dev; the best epoch's weights are kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from training.data.batches import IGNORED, Batch, Sample, batched, windows
from training.loop import truncated
from training.loop.averaging import Average
from training.loop.checkpoints import Checkpoints
from training.loop.logs import Record, Write
from training.loop.processes import ALONE, Processes
from training.loop.schedules import OptimiserName, ScheduleName, factor, optimiser
from training.loop.truncated import DocumentLoss
from training.nets.networks import Network, Passage

Precision = Literal["full", "mixed"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train: every setting of the loop, with the value that suits both tasks.

    Four depend on how many examples there are: 0 leaves them to `suited`."""

    epochs: int = 0
    patience: int = 0
    """Stop after this many epochs without a better dev score."""
    learning_rate: float = 0.0
    """The full one, of which `schedule` takes a share."""
    optimiser: OptimiserName = "adam"
    schedule: ScheduleName = "cosine"
    """Over all epochs, whether they are run or not; by default it falls along half a cosine."""
    warm_up: float = 0.0
    """Share of the training in which the rate rises in a straight line."""
    word_rate: float = 1.0
    """The share of the rate at which word vectors learn; 0 leaves them as they came."""
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest global norm of the gradient (Pascanu et al. 2013)."""
    clip_value: float = 0.0
    """Largest absolute value of any number in the gradient, cut before the norm; 0 for any."""
    accumulate: int = 1
    """Batches of each process that make one step: their gradients are added up, and every target counts the same."""
    precision: Precision = "full"
    """mixed: bfloat16 in the operations that torch lists as safe; faster on CUDA, and on a CPU that computes with
    it."""
    batch_rows: int = 0
    batch_tokens: int = 8192
    """Padded tokens of a batch, at most."""
    bptt: int = 0
    """Truncated backpropagation through time, in windows of this many tokens; 0 for whole texts (`truncated`)."""
    bptt_loss: DocumentLoss = "windows"
    """With `bptt`: the place of a document's loss. Taggers ignore it."""
    window: int = 0
    """Cut training texts to a random run of this many tokens, anew each epoch; 0 for whole texts. Sentiment only."""
    label_smoothing: float = 0.0
    soft_share: float = 0.7
    """The share of a teacher's logits in the loss of a text that has them; the rest is its label's (Hinton 2015)."""
    temperature: float = 2.0
    """Divisor of the logits of teacher and student in their comparison."""
    average: float = 0.0
    """Score and keep a running mean of the weights, with this share of the old mean at each step; 0 for none."""
    seed: int = 1

    def suited(self, examples: int) -> Recipe:
        """The same with every setting fixed, for training data of `examples` examples.

        Few examples make few steps: they are read in smaller batches, more often, and at a higher rate.
        """
        rows = self.batch_rows or min(32, max(8, examples // 64))
        epochs = self.epochs or min(60, max(10, math.ceil(_STEPS * rows / examples)))
        return replace(
            self,
            batch_rows=rows,
            epochs=epochs,
            patience=self.patience or max(3, epochs // 3),
            learning_rate=self.learning_rate or 1e-3 * min(5.0, max(1.0, math.sqrt(10_000 / examples))),
        )


_STEPS = 1500
"""Steps that a training has by default at least, up to 60 epochs."""


def refusal(precision: Precision, device: torch.device) -> str | None:
    """Why a network cannot be trained in this precision on a device; None if it can."""
    if precision == "mixed" and device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "this CPU computes no LSTM in bfloat16, which takes AVX-512: leave out --precision mixed, or use a GPU"
    return None


@dataclass(frozen=True, slots=True)
class Progress:
    """Report of the loop after each batch; with a `score`, after each epoch."""

    epoch: int
    batch: int
    batches: int
    loss: float
    score: float | None = None
    best: float | None = None
    clipped: float = 0.0
    """Share of the epoch's steps so far with a clipped gradient."""
    epochs: int = 0
    """Most epochs of the whole training; 0 if unknown."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How training ended; the network holds the weights of the best epoch."""

    epochs: int
    best: float | None
    interrupted: bool
    diverged: bool = False


class Mark(NamedTuple):
    """Result on dev: a score (higher is better), and the loss, which decides between equal scores."""

    score: float
    loss: float = 0.0


class _Diverged(Exception):
    """The loss, or the network's answers, are no numbers any more."""


def seed_everything(seed: int) -> None:
    """The same seed gives the same model on one machine with the same number of threads."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Fresh memory is written before it is read; filling it all the same took a sixth of the time of an LSTM's training.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a module of properties


def fit(
    network: Network,
    samples: Sequence[Sample],
    recipe: Recipe,
    score: Callable[[Network], Mark | float],
    report: Callable[[Progress], None],
    device: torch.device,
    checkpoints: Checkpoints | None = None,
    state: Mapping[str, Any] | None = None,
    log: Write | None = None,
    processes: Processes = ALONE,
    floor: float = -math.inf,
) -> Outcome:
    """Train in place. `score` measures the network on dev (higher is better) and raises `ValueError` for answers that
    are not finite. Such an answer, a loss that is not finite, or KeyboardInterrupt ends the training early and keeps
    the best epoch so far, or the current weights if no epoch is finished. Early stopping counts from the first score
    above `floor`, the score of guessing.

    `state` is the result of `Checkpoints.load`. The training continues from it, and gives the same weights as an
    undisturbed one.

    All `processes` call this with the same samples, recipe and state. The first one's weights, score, checkpoints and
    log count. With several processes KeyboardInterrupt is raised, because the others would wait for this one."""
    network.to(device)
    recipe = recipe.suited(len(samples))
    training = _Training(network, samples, recipe, report, device, checkpoints, log, processes, floor)
    if state is not None:
        training.restore(state)
    interrupted = diverged = False
    epoch = training.epoch - 1
    try:
        while not training.ended:
            epoch = training.epoch
            training.run_epoch()
            with training.averaged():
                training.keep(processes.from_first(_measured(score, network) if processes.first else Mark(0.0)))
            training.end_epoch()
    except KeyboardInterrupt:
        if processes.count > 1:
            raise
        interrupted = True
    except _Diverged:
        diverged = True
    if training.kept:
        network.load_state_dict(training.kept)
    network.eval()
    return Outcome(epoch, training.best, interrupted, diverged)


def _rated(network: Network, recipe: Recipe) -> list[dict[str, Any]]:
    """The trained parameters in groups, each with its `share` of the learning rate.

    Words that the training data has not keep the vectors that they came with: the further the others move, the less
    the network makes of those.
    """
    words = list(network.embeddings["word"].parameters())
    if not recipe.word_rate:
        for table in words:
            table.requires_grad_(False)
    apart = {id(table) for table in words} if recipe.word_rate != 1 else set()
    groups = [
        ([each for each in network.parameters() if id(each) not in apart], 1.0),
        ([each for each in words if id(each) in apart], recipe.word_rate),
    ]
    return [
        {"params": trained, "share": share}
        for parameters, share in groups
        if (trained := [each for each in parameters if each.requires_grad])
    ]


def _measured(score: Callable[[Network], Mark | float], network: Network) -> Mark:
    """NaN for answers that are no numbers."""
    try:
        found = score(network)
    except ValueError:
        return Mark(math.nan)
    return found if isinstance(found, Mark) else Mark(found)


class _Training:
    """One training run: its data and its current state."""

    def __init__(
        self,
        network: Network,
        samples: Sequence[Sample],
        recipe: Recipe,
        report: Callable[[Progress], None],
        device: torch.device,
        checkpoints: Checkpoints | None,
        log: Write | None,
        processes: Processes,
        floor: float,
    ) -> None:
        self.network, self.samples, self.recipe, self.device = network, samples, recipe, device
        self.processes, self.floor = processes, floor
        # One machine's rounding may differ from another's in the weights that it draws.
        processes.alike(network.state_dict().values())
        if not processes.first:
            torch.manual_seed(recipe.seed + processes.rank)  # other rows, other dropout
        self.report, self.checkpoints, self.log = report, checkpoints, log or (lambda _: None)
        self.generator = np.random.default_rng(recipe.seed)
        self.optimizer = optimiser(recipe.optimiser, _rated(network, recipe), recipe.learning_rate, recipe.weight_decay)
        self.average = Average(network, recipe.average) if recipe.average else None
        self.epoch, self.done, self.step, self.since = 1, 0, 0, 0
        """The epoch that runs, its steps that are done, those of the training, and epochs without a better score."""
        self.mean, self.clipped = 0.0, 0
        """Over the epoch so far: the loss, and how many steps were clipped."""
        self.reached = 0.0
        self.best: float | None = None
        self.lowest = math.inf
        """The dev loss of the best epoch."""
        self.kept: dict[str, Tensor] = {}
        self.began = self._drawn()

    @property
    def ended(self) -> bool:
        return self.epoch > self.recipe.epochs or self.since >= self.recipe.patience

    def run_epoch(self) -> None:
        """Every remaining batch of the epoch once."""
        recipe = self.recipe
        self.generator.bit_generator.state = json.loads(self.began)
        task = self.network.architecture.task
        cut = recipe.window and task == "sentiment"
        seen = windows(self.samples, recipe.window, self.generator) if cut else self.samples
        batches = batched(seen, task, recipe.batch_rows, recipe.batch_tokens, self.device, self.generator)
        groups = list(_groups(list(batches), recipe.accumulate * self.processes.count))
        self.network.train()
        for number, group in enumerate(groups[self.done :], self.done + 1):
            through = (self.epoch - 1 + (number - 1) / len(groups)) / recipe.epochs
            rate = recipe.learning_rate * factor(recipe.schedule, through, recipe.warm_up)
            for options in self.optimizer.param_groups:
                options["lr"] = rate * options["share"]
            loss, norm = self._step(group)
            clipped = norm > recipe.clip
            self.done, self.step, self.clipped = number, self.step + 1, self.clipped + clipped
            self.mean += (loss - self.mean) / number
            tokens = sum(int(batch.lengths.sum()) for batch in group)
            record: Record = {"step": self.step, "epoch": self.epoch, "loss": loss, "rate": rate, "gradient": norm}
            self.log(record | {"clipped": int(clipped), "tokens": tokens})
            share = self.clipped / number
            self.report(Progress(self.epoch, number, len(groups), self.mean, clipped=share, epochs=recipe.epochs))
            if self.checkpoints and self.step % self.checkpoints.every == 0:
                self.save()

    def _step(self, group: Sequence[Batch]) -> tuple[float, float]:
        """One step of the optimiser: the mean loss of a group's batches, and the gradient's norm before clipping."""
        self.optimizer.zero_grad(set_to_none=True)
        count = sum(_count(window) for batch in group for _, window in self._cut(batch))
        total = torch.zeros((), device=self.device)
        for batch in self.processes.share(group):
            passage = Passage()
            for rows, window in self._cut(batch):
                passage.cut(rows)
                total += self._learn(window, passage, _count(window) / count)
        self._add_up(total)
        if not math.isfinite(loss := float(total)):
            raise _Diverged
        parameters = list(self.network.parameters())
        if self.recipe.clip_value:
            nn.utils.clip_grad_value_(parameters, self.recipe.clip_value)
        norm = float(nn.utils.clip_grad_norm_(parameters, self.recipe.clip))
        self.optimizer.step()
        if self.average:
            self.average.update()
        return loss, norm

    def _add_up(self, total: Tensor) -> None:
        """Sum loss and gradients over all processes, in place; one that had no batch has nothing to add."""
        if self.processes.count > 1:
            trained = [each for each in self.network.parameters() if each.requires_grad]
            for each in trained:
                each.grad = torch.zeros_like(each) if each.grad is None else each.grad
            self.processes.add([total, *(each.grad for each in trained if each.grad is not None)])

    def _cut(self, batch: Batch) -> Iterator[tuple[Tensor, Batch]]:
        task, recipe = self.network.architecture.task, self.recipe
        return truncated.cut(batch, task, recipe.bptt or batch.tokens.shape[1], recipe.bptt_loss)

    def _learn(self, window: Batch, passage: Passage, share: float) -> Tensor:
        """Add the gradient of a window, with this share of the step's targets. Returns its loss."""
        mixed = torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "mixed")
        with mixed, torch.set_grad_enabled(share > 0):
            logits = self.network(window.tokens, window.lengths, passage)
        if not share:
            return torch.zeros((), device=self.device)
        loss = _loss(self.network, window, logits.float(), self.recipe) * share
        torch.autograd.backward(loss)
        return loss.detach()

    def averaged(self) -> AbstractContextManager[None]:
        """Inside the block the network has the weights that are scored and kept."""
        return self.average.applied() if self.average else nullcontext()

    def keep(self, reached: Mark) -> None:
        """Keep the weights if they reached a better score, or the best score at a lower loss."""
        if math.isnan(reached.score):
            raise _Diverged
        better = self.best is None or reached.score > self.best
        self.reached, self.since = reached.score, 0 if better else self.since + 1
        if better or (reached.score == self.best and reached.loss < self.lowest):
            self.best, self.lowest = reached
            self.kept = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        if self.best is not None and self.best <= self.floor:
            self.since = 0  # no better than guessing: early stopping does not count yet

    def end_epoch(self) -> None:
        """Report the result of the epoch, and begin the next one."""
        assert self.best is not None
        share = self.clipped / max(1, self.done)
        self.log({"step": self.step, "epoch": self.epoch, "score": self.reached, "best": self.best, "clipped": share})
        self.report(Progress(self.epoch, 0, 0, 0.0, self.reached, self.best, share))
        self.epoch, self.done, self.mean, self.clipped, self.began = self.epoch + 1, 0, 0.0, 0, self._drawn()
        if self.checkpoints:
            self.save()

    def save(self) -> None:
        """Save the state of the training, with that of every process."""
        assert self.checkpoints is not None
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        random = self.processes.gathered({"cpu": torch.get_rng_state(), "cuda": cuda})
        if self.processes.first:
            state = {name: getattr(self, name) for name in _STANDING}
            state |= {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(), "kept": self.kept}
            state |= {"average": self.average.state() if self.average else None, "random": random}
            self.checkpoints.save(state)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the state that `save` wrote."""
        for name in _STANDING:
            setattr(self, name, state[name])
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.kept = {name: tensor.to(self.device) for name, tensor in state["kept"].items()}
        if self.average:
            self.average.restore(state["average"])
        random = state["random"][self.processes.rank]
        torch.set_rng_state(random["cpu"])
        if random["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(random["cuda"], self.device)

    def _drawn(self) -> str:
        """The state of the batches' random generator, as JSON: its numbers are longer than 64 bits."""
        return json.dumps(self.generator.bit_generator.state)


_STANDING = ("epoch", "done", "step", "since", "mean", "clipped", "best", "lowest", "began")


def _count(batch: Batch) -> int:
    """The number of targets of a batch: its mean loss is a mean over these."""
    return int((batch.targets != IGNORED).sum())


def _loss(network: Network, batch: Batch, logits: Tensor, recipe: Recipe) -> Tensor:
    """The mean negative log-likelihood of a target, under a CRF that of whole label sequences, by its tokens."""
    if network.crf is not None:
        return network.crf.loss(logits, batch.targets, batch.lengths)
    hard = nn.functional.cross_entropy(
        logits.flatten(0, -2),
        batch.targets.flatten(),
        ignore_index=IGNORED,
        label_smoothing=recipe.label_smoothing,
        reduction="mean" if batch.soft is None else "none",
    )
    return hard if batch.soft is None else _distilled(hard, batch.soft, logits, batch.targets, recipe)


def _distilled(hard: Tensor, soft: Tensor, logits: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """The mean loss of texts, some of them with a teacher's logits: hard [batch], soft and logits [batch, labels].

    The soft part is the cross-entropy between both softmaxes at the temperature T, less the teacher's entropy, times
    T², so that its gradient has the size of the hard part's for every T (Hinton, Vinyals and Dean 2015).
    """
    known = ~soft[:, 0].isnan()
    by = recipe.temperature
    theirs = (soft.nan_to_num() / by).log_softmax(1)
    away = nn.functional.kl_div((logits / by).log_softmax(1), theirs, reduction="none", log_target=True).sum(1) * by**2
    share = recipe.soft_share * known
    counted = targets != IGNORED  # a window may have no target
    return ((1 - share) * hard + share * away * counted).sum() / counted.sum()


def _groups(batches: Sequence[Batch], count: int) -> Iterator[Sequence[Batch]]:
    """Group batches; the gradients of a group make one step."""
    for start in range(0, len(batches), count):
        yield batches[start : start + count]
