"""Character networks: a small network reads a token's characters, and its output stands beside the word vector.

A token's characters are numbers [columns], 0 behind its end. Both networks see a token alone, never its neighbours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from service.model.bundle import CharacterNetwork
from training.nets.cells import LSTM, Cell

EMBEDDING = 30
"""Columns of the character table."""


class Characters(nn.Module):
    """characters int [tokens, columns] → features [tokens, width]."""

    kind: CharacterNetwork
    width: int

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, EMBEDDING, padding_idx=0)
        nn.init.uniform_(self.table.weight[1:].detach(), -((3 / EMBEDDING) ** 0.5), (3 / EMBEDDING) ** 0.5)

    def of_batch(self, characters: Tensor) -> Tensor:
        """[batch, time, columns] → [batch, time, width]; each different token of the batch is computed once."""
        different, where = distinct(characters.flatten(0, 1))
        features = functional.embedding(where, self(different))
        return features.view(*characters.shape[:2], self.width)


def distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The different rows of a matrix, and which of them each row is.

    On a CPU by their bytes: `torch.unique` runs an operator for each comparison of two rows.
    """
    if rows.device.type != "cpu":
        different, where = torch.unique(rows, dim=0, return_inverse=True)
        return different, where
    array = rows.contiguous().numpy()
    content, size = array.tobytes(), array.shape[1] * array.itemsize
    numbers: dict[bytes, int] = {}
    where = [numbers.setdefault(content[at : at + size], len(numbers)) for at in range(0, len(content), size)]
    return torch.frombuffer(bytearray(b"".join(numbers)), dtype=rows.dtype).view(-1, rows.shape[1]), torch.tensor(where)


class CharacterCNN(Characters):
    """Convolutions over three characters each, and the maximum over the token (Ma and Hovy 2016).

    A convolution over embeddings is a sum of rows of `products`, one for each character of the window: a few additions
    in place of a matrix product for each window.
    """

    kind = "cnn"
    width = 50
    reach = 3

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.convolution = nn.Conv1d(EMBEDDING, self.width, self.reach, padding=self.reach // 2)

    def forward(self, characters: Tensor) -> Tensor:
        """Padding behind a token's end takes part: a convolution over zeros gives the bias."""
        longest = int((characters > 0).any(0).sum())
        columns = min(characters.shape[1], longest + self.reach - 1)  # a window of padding alone is among them, if any
        half = self.reach // 2
        padded = functional.pad(characters[:, :columns].long(), (half, half + self.reach))
        places = torch.arange(self.reach, device=characters.device)
        windows = padded.unfold(1, self.reach, 1)[:, :columns] * self.reach + places  # (N, columns, reach): rows
        with torch.autocast(characters.device.type, enabled=False):
            largest: Tensor = _LargestSum.apply(self.products(), windows)  # type: ignore[no-untyped-call]  # torch has none
            assert self.convolution.bias is not None
            return largest + self.convolution.bias

    def products(self) -> Tensor:
        """The convolution of each row of the character table at each place of a window: [rows * reach, width]."""
        return (self.table.weight @ self.convolution.weight.permute(1, 2, 0).flatten(1)).view(-1, self.width)

    def tables(self) -> Tensor:
        """The convolution of the character table, one place at a time: [reach, rows, width], float32.

        A convolution over embeddings is a sum of rows of these: at place p, ``sum over k of tables[k, c[p + k - 1]]``,
        plus the bias.
        """
        with torch.no_grad():
            return torch.einsum("re,wek->krw", self.table.weight.double(), self.convolution.weight.double()).float()

    @torch.no_grad()
    def take(self, tables: Tensor, bias: Tensor) -> None:
        """Become a network with these `tables` [reach, rows, width], which are all that a bundle keeps of one.

        Many character tables and convolutions have the same product; the singular value decomposition gives one. Its
        table has a row of 0 for padding, as the product has.
        """
        rows = tables.permute(1, 0, 2).flatten(1).double()
        left, values, right = torch.linalg.svd(rows, full_matrices=False)
        self.table.weight.copy_(left[:, :EMBEDDING] * values[:EMBEDDING])
        self.convolution.weight.copy_(right[:EMBEDDING].view(EMBEDDING, self.reach, self.width).permute(2, 0, 1))
        assert self.convolution.bias is not None
        self.convolution.bias.copy_(bias)


class _LargestSum(Function):
    """``max over p of sum over k of products[windows[n, p, k]]`` for each token n: [N, width].

    The gradient goes to the window with the largest sum alone. The first `reach` rows of the products are those of
    padding, which has none.
    """

    @staticmethod
    def forward(ctx: Any, products: Tensor, windows: Tensor) -> Tensor:
        tokens, columns, reach = windows.shape
        sums = functional.embedding_bag(windows.reshape(-1, reach), products, mode="sum")  # (N · columns, width)
        sums = sums.view(tokens, columns, -1)
        if not ctx.needs_input_grad[0]:
            return sums.amax(1)
        largest, place = sums.max(1)  # (N, width); several times as long as the maximum alone
        ctx.save_for_backward(windows, place)
        ctx.rows = len(products)
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        windows, place = ctx.saved_tensors
        width = gradient.shape[1]
        chosen = windows.gather(1, place[..., None].expand(-1, -1, windows.shape[2]))  # (N, width, reach)
        at = chosen * width + torch.arange(width, device=gradient.device)[:, None]
        found = gradient.new_zeros(ctx.rows * width)
        found.index_add_(0, at.flatten(), gradient[..., None].expand_as(at).flatten())
        found[: windows.shape[2] * width] = 0.0
        return found.view(ctx.rows, width), None


class CharacterLSTM(Characters):
    """The last states of an LSTM in each direction (Lample et al. 2016)."""

    kind = "lstm"
    units = 25
    width = 2 * units

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.cells = nn.ModuleList(LSTM(EMBEDDING, self.units) for _ in range(2))

    def directions(self) -> list[Cell]:
        """The forward cell and the backward one."""
        return [cell for cell in self.cells if isinstance(cell, Cell)]

    def forward(self, characters: Tensor) -> Tensor:
        lengths = (characters > 0).sum(1)
        read = self.table(characters)
        steps = torch.arange(characters.shape[1], device=characters.device)
        mirrored = (lengths[:, None] - 1 - steps).clamp(min=0)
        turned = read.gather(1, mirrored[..., None].expand_as(read))
        rows, ends = torch.arange(len(read), device=read.device), (lengths - 1).clamp(min=0)
        last = torch.cat([cell(way)[rows, ends] for cell, way in zip(self.cells, (read, turned), strict=True)], dim=1)
        return torch.where((lengths > 0)[:, None], last, 0.0)


CHARACTERS: dict[CharacterNetwork, type[Characters]] = {"cnn": CharacterCNN, "lstm": CharacterLSTM}
"""The networks over characters, by name."""
