"""The lower end of both ONNX graphs: rows of integers → each token's vector, from tables stored in 16 or 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from service.model.bundle import Feature
from service.model.weights_layout import CHARACTER_BIAS, CHARACTERS, STACKING, WORDS, fine_name, scale_name, table_name
from training.export.onnx.builder import Builder
from training.nets.characters import CharacterCNN, CharacterLSTM
from training.nets.networks import Architecture, Network, Table

FINE_ROWS = 12_000
"""Limit on the words that keep 8 bits in a table of 4: those that the training data has most often."""


@dataclass(frozen=True, slots=True)
class Quantised:
    """A table in integers: `whole` int16 [rows, columns] from -127 to 127, and the value of 1 in each row, `scale`
    float16 [rows, 1]. In rows from `coarse` on they are odd multiples of 8, so that 4 bits tell them."""

    whole: NDArray[np.int16]
    scale: NDArray[np.float16]
    coarse: int

    @classmethod
    def of(cls, table: torch.Tensor, coarse: int) -> Quantised:
        rows = table.detach().cpu().float().numpy()
        most = np.full((len(rows), 1), 127.0, np.float32)
        most[coarse:] = 120.0
        scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / most, 1e-6).astype(np.float16)
        whole = np.clip(np.round(rows / scale), -127, 127)
        whole[coarse:] = np.clip(16 * np.floor(rows[coarse:] / scale[coarse:] / 16) + 8, -120, 120)
        return cls(whole.astype(np.int16), scale, coarse)

    def rounded(self) -> torch.Tensor:
        return torch.from_numpy(self.whole.astype(np.float32) * self.scale.astype(np.float32))

    @classmethod
    def of_halves(cls, upper: NDArray[np.uint8], lower: NDArray[np.uint8], scale: NDArray[np.float16]) -> Quantised:
        """The table that `halves` and `scale` encode."""
        high, low = (np.concatenate([part & 15, part >> 4], axis=1).astype(np.int16) for part in (upper, lower))
        coarse = len(lower) - 1
        whole = high * 16 + low[np.minimum(np.arange(len(high)), coarse)] - 128
        return cls(whole.astype(np.int16), scale, coarse)

    def halves(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The upper four bits of ``whole + 128`` of every row; and the lower four of the fine rows and of one row more,
        which stands for all coarse ones. Two numbers a byte, the second half of the columns in its upper bits."""
        shifted = (self.whole + 128).astype(np.uint8)
        lower = np.vstack([shifted[: self.coarse] & 15, np.full_like(shifted[:1], 8)])
        upper = shifted >> 4
        middle = shifted.shape[1] // 2
        both = [np.ascontiguousarray(part[:, :middle] | part[:, middle:] << 4) for part in (upper, lower)]
        return both[0], both[1]


def unpackable(bits: int, size: int) -> str | None:
    """Why word vectors of `size` numbers cannot be kept in so many bits each; None if they can."""
    if bits == 4 and size % 2:
        return f"two numbers share a byte: 4 bits need word vectors of an even size, not {size}"
    return None


def _quantised(network: Network) -> Quantised:
    table = network.embeddings["word"]
    assert isinstance(table, Table)
    if network.architecture.word_bits == 8:
        return Quantised.of(table.weight, len(table.weight))
    if table.fine is not None:
        return Quantised.of(table.weight, table.fine)
    return Quantised.of(table.weight, min(FINE_ROWS, len(table.learned) if table.learns else len(table.weight)))


def round_to_storage(network: Network) -> None:
    """Round the network's weights to the precision of a bundle, so that torch and the graphs compute with the same
    numbers: word vectors to the architecture's bits, other tables to float16, and with less than 16 bits the recurrent
    matrices.
    """
    for name, table in network.embeddings.items():
        assert isinstance(table, Table)
        if name == "word" and network.architecture.word_bits < 16:
            table.weight.data.copy_(_quantised(network).rounded())
        else:
            table.weight.data.copy_(table.weight.data.half().float())
    if isinstance(network.characters, CharacterLSTM):
        letters = network.characters.table.weight
        letters.data.copy_(letters.data.half().float())
    if network.architecture.word_bits < 16:
        for layer in network.recurrent():
            for cell in layer.directions():
                for matrix in cell.matrices():
                    matrix.data.copy_(matrix.data.half().float())


def embeddings(network: Network) -> dict[str, NDArray[np.generic]]:
    """The arrays that the lower end reads, by their names in the weights file."""
    arrays: dict[str, NDArray[np.generic]] = {}
    bits = network.architecture.word_bits
    for name, table in network.embeddings.items():
        assert isinstance(table, Table)
        if name == "word" and bits < 16:
            found = _quantised(network)
            arrays[scale_name(WORDS)] = found.scale
            if bits == 8:
                arrays[WORDS] = found.whole.astype(np.int8)
            else:
                arrays[WORDS], arrays[fine_name(WORDS)] = found.halves()
        else:
            arrays[table_name(name)] = table.weight.detach().cpu().numpy().astype(np.float16)
    characters = network.characters
    if isinstance(characters, CharacterCNN):
        tables = characters.tables().permute(1, 0, 2)
        arrays[table_name("character")] = np.ascontiguousarray(tables.flatten(1).numpy())
        assert characters.convolution.bias is not None
        arrays[CHARACTER_BIAS] = characters.convolution.bias.detach().cpu().numpy()
    elif isinstance(characters, CharacterLSTM):
        arrays[table_name("character")] = characters.table.weight.detach().cpu().numpy().astype(np.float16)
        ways = [[cell.weights()[gate] for gate in STACKING["lstm"]] for cell in characters.directions()]
        arrays[f"{CHARACTERS}.W"] = np.stack([np.concatenate([gate.w for gate in way]) for way in ways])
        arrays[f"{CHARACTERS}.R"] = np.stack([np.concatenate([gate.r for gate in way]) for way in ways])
        biases = [[gate.w_bias for gate in way] + [gate.r_bias for gate in way] for way in ways]
        arrays[f"{CHARACTERS}.B"] = np.stack([np.concatenate(each) for each in biases])
    return arrays


ReadCharacters = Callable[[Builder, Feature, int], str]
"""The graph's part that reads a feature's characters, from its first column on → [time, batch, width]."""


def embed(builder: Builder, architecture: Architecture, lstm: ReadCharacters | None = None) -> str:
    """tokens [batch, time, columns] → [time, batch, sum of the features' sizes], float32.

    `lstm` reads the characters of a network with an LSTM over characters.
    """
    columns = builder.node("Transpose", "tokens", perm=[2, 1, 0])
    found, at = [], 0
    for feature in architecture.features:
        if feature.name == "character":
            read = lstm if lstm and architecture.characters == "lstm" else _CHARACTERS[str(architecture.characters)]
            found.append(read(builder, feature, at))
        else:
            found.append(_looked_up(builder, architecture, feature, at, columns))
        at += feature.columns
    return builder.node("Concat", *found, axis=2) if len(found) > 1 else found[0]


def _looked_up(builder: Builder, architecture: Architecture, feature: Feature, at: int, columns: str) -> str:
    rows = builder.node("Gather", columns, builder.constant(np.array(at, np.int64)), axis=0)
    if feature.name == "word" and architecture.word_bits == 4:
        vectors = _unpacked(builder, rows)
    else:
        vectors = builder.node("Gather", builder.weight(table_name(feature.name)), rows, axis=0)
        vectors = builder.node("Cast", vectors, to=TensorProto.FLOAT)
    if feature.name == "word" and architecture.word_bits < 16:
        scales = builder.node("Gather", builder.weight(scale_name(WORDS)), rows, axis=0)
        vectors = builder.node("Mul", vectors, builder.node("Cast", scales, to=TensorProto.FLOAT))
    return vectors


def _unpacked(builder: Builder, rows: str) -> str:
    """The whole numbers of `Quantised.halves`: 16 times the upper four bits, plus the lower, minus 128."""
    last = len(builder.weights.arrays[fine_name(WORDS)]) - 1
    capped = builder.node("Min", rows, builder.constant(np.array(last, np.int32)))
    upper = _nibbles(builder, builder.node("Gather", builder.weight(WORDS), rows, axis=0))
    lower = _nibbles(builder, builder.node("Gather", builder.weight(fine_name(WORDS)), capped, axis=0))
    shifted = builder.node("Mul", upper, builder.constant(np.array(16, np.float32)))
    moved = builder.node("Sub", lower, builder.constant(np.array(128, np.float32)))
    return builder.node("Add", shifted, moved)


def _nibbles(builder: Builder, packed: str) -> str:
    """Bytes [..., n] → float32 [..., 2n]: the lower four bits of all n bytes, then the upper four bits of all."""
    whole = builder.node("Cast", packed, to=TensorProto.FLOAT)
    sixteen = builder.constant(np.array(16, np.float32))
    upper = builder.node("Floor", builder.node("Div", whole, sixteen))
    lower = builder.node("Sub", whole, builder.node("Mul", upper, sixteen))
    return builder.node("Concat", lower, upper, axis=2)


def read_characters(builder: Builder, feature: Feature, at: int) -> str:
    """The character columns, time first: [time, batch, columns]."""
    turned = builder.node("Transpose", "tokens", perm=[1, 0, 2])
    return builder.node(
        "Slice", turned, builder.integers(at), builder.integers(at + feature.columns), builder.integers(2)
    )


def letter_vectors(builder: Builder, letters: str) -> str:
    """The vectors of the LSTM over characters: letters [columns, tokens] → [columns, tokens, numbers], float32."""
    stored = builder.node("Gather", builder.weight(table_name("character")), letters, axis=0)
    return builder.node("Cast", stored, to=TensorProto.FLOAT)


def _cnn(builder: Builder, feature: Feature, at: int) -> str:
    """Convolution and maximum without a product: the sum, for each place, of rows of `CharacterCNN.tables`."""
    width, reach = CharacterCNN.width, CharacterCNN.reach
    ids = read_characters(builder, feature, at)
    margin = reach // 2
    padded = builder.node("Pad", ids, builder.integers(0, 0, margin, 0, 0, margin))
    total = ""
    for place in range(reach):
        seen = builder.node(
            "Slice", padded, builder.integers(place), builder.integers(place + feature.columns), builder.integers(2)
        )
        table = builder.node(
            "Slice",
            builder.weight(table_name("character")),
            builder.integers(place * width),
            builder.integers((place + 1) * width),
            builder.integers(1),
        )
        rows = builder.node("Gather", table, seen, axis=0)
        total = builder.node("Add", total, rows) if total else rows
    most = builder.node("ReduceMax", total, axes=[2], keepdims=0)
    return builder.node("Add", most, builder.weight(CHARACTER_BIAS))


def _lstm(builder: Builder, feature: Feature, at: int) -> str:
    """All tokens of the batch as one batch of short rows; the last states of both directions."""
    ids = read_characters(builder, feature, at)
    flat = builder.node("Reshape", ids, builder.integers(-1, feature.columns))
    zero = builder.constant(np.array(0, np.int32))
    there = builder.node("Cast", builder.node("Greater", flat, zero), to=TensorProto.INT32)
    lengths = builder.node("ReduceSum", there, builder.integers(1), keepdims=0)
    letters = builder.node("Transpose", flat, perm=[1, 0])
    vectors = letter_vectors(builder, letters)
    parts = [builder.weight(f"{CHARACTERS}.{part}") for part in "WRB"]
    name = builder.name("last")
    outputs = ["", name]
    attributes = {"hidden_size": CharacterLSTM.units, "direction": "bidirectional"}
    builder.nodes.append(helper.make_node("LSTM", [vectors, *parts, lengths], outputs, **attributes))
    together = builder.node("Transpose", name, perm=[1, 0, 2])
    shape = builder.node("Slice", builder.node("Shape", ids), builder.integers(0), builder.integers(2))
    shape = builder.node("Concat", shape, builder.integers(CharacterLSTM.width), axis=0)
    return builder.node("Reshape", together, shape)


_CHARACTERS = {"cnn": _cnn, "lstm": _lstm}
