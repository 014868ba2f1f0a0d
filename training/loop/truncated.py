"""Truncated backpropagation through time (Williams and Peng 1990): a batch of texts, read in windows.

The state is carried over from window to window and the graph is cut between them, so that a gradient reaches at most as
far back as its window's first step, and no more than one window's graph is ever in memory. The gradients of all windows
of a text are added up for one update of the weights. The weights do not change between windows, so the sum is the full
gradient without the parts that would cross a cut.

Each token of a tagger has its loss in its own window. For a document there are two choices (`DocumentLoss`): `end` has
one loss at the end of the text, which reaches only the last window; `windows` has one at the end of each window, for
the label of the text so far (target replication: Lipton et al. 2016). A CRF and a backward reader are refused: the
CRF's loss belongs to the whole sequence, and a backward reader begins at the end of the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from service.model.bundle import Task
from service.model.equations import Direction
from training.data.batches import IGNORED, Batch

DocumentLoss = Literal["windows", "end"]
"""Place of a document's loss: the end of each window, or only the end of the document."""
DOCUMENT_LOSSES: tuple[DocumentLoss, ...] = get_args(DocumentLoss)


def refusal(directions: Sequence[Direction], crf: bool) -> str | None:
    """The reason why such a network cannot be trained in windows; None if it can."""
    if "backward" in directions:
        return (
            "truncated BPTT reads a text window by window, and the backward direction cannot be carried over: it "
            "begins at the text's end. Train one direction, or whole texts"
        )
    if crf:
        return (
            "truncated BPTT needs a loss for each window, and a CRF's is one of the whole sequence: train without the "
            "CRF, or whole texts"
        )
    return None


def cut(batch: Batch, task: Task, width: int, loss: DocumentLoss) -> Iterator[tuple[Tensor, Batch]]:
    """Cut a batch into windows of `width` tokens. Each window comes with the rows of the window before that continue in
    it. A window has the lengths and targets of its own part. Its target is `IGNORED` if the document's loss is in
    another window. Windows without a target are returned too: their state is needed.
    """
    rows, start = torch.arange(len(batch.lengths), device=batch.lengths.device), 0
    kept = rows
    while True:
        left, targets = batch.lengths[rows] - start, batch.targets[rows]
        width_here = min(width, int(left.max()))
        if task == "ner":
            targets = targets[:, start : start + width_here]
        elif loss == "end":
            targets = targets.masked_fill(left > width, IGNORED)
        tokens = batch.tokens[rows, start : start + width_here]
        positions = [batch.positions[row] for row in rows.tolist()]
        soft = None if batch.soft is None else batch.soft[rows]
        lengths = left.clamp(max=width)
        yield kept, Batch(tokens, lengths, targets, positions, soft)
        kept = (left > width).nonzero()[:, 0]
        if not len(kept):
            return
        rows, start = rows[kept], start + width
