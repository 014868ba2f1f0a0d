"""Character networks: a small network reads a token's characters, and its output stands beside the word vector.

A token's characters are numbers [columns], 0 behind its end. Both networks see a token alone, never its neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
        flat = characters.flatten(0, 1)
        different, where = torch.unique(flat, dim=0, return_inverse=True)
        features: Tensor = self(different)[where]
        return features.view(*characters.shape[:2], self.width)


class CharacterCNN(Characters):
    """Convolutions over three characters each, and the maximum over the token (Ma and Hovy 2016)."""

    kind = "cnn"
    width = 50
    reach = 3

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.convolution = nn.Conv1d(EMBEDDING, self.width, self.reach, padding=self.reach // 2)

    def forward(self, characters: Tensor) -> Tensor:
        """Padding behind a token's end takes part: a convolution over zeros gives the bias."""
        read: Tensor = self.convolution(self.table(characters).transpose(1, 2))
        return read.amax(2)

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
