#!/usr/bin/env bash
# coremltools 9.0 converts a torch module with pack_padded_sequence and an LSTM, and leaves the lengths out of the recurrence.
# The operator lstm of the converted program reads the padded batch and has no lengths; they only set the outputs behind each
# row's end to 0. So the outputs of a forward LSTM are right, while the last hidden and cell state of every short row are those
# after its padding, and the backward direction is wrong at real steps. It warns that translating the two calls is "not
# efficient", and of nothing else. With all rows full the program is right, so a check with one text does not show it.
# Without initial states of its own it even takes the first length for the number of rows, so the script gives zeros.
# Core ML runs on a Mac only: the script computes the converted program in float64, by the equations that the documentation
# of coremltools gives for its operators. A GRU is refused (number 2798 of its tracker, open); of the LSTM's states no issue
# is known. openvino-packed-lstm.sh has the same loss in another converter, with no warning.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet coremltools==9.0 torch==2.13.0 numpy==2.3.5
venv/bin/python -W ignore - <<'PY'
import io
import logging
import os

os.environ["TQDM_DISABLE"] = "1"
logging.disable(logging.WARNING)  # what it says of a newer torch, and of macOS, at its import
import coremltools as ct
import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

INPUT, HIDDEN, STEPS, ROWS = 5, 6, 7, 3


class Network(torch.nn.Module):
    def __init__(self, kind, bidirectional, zeros=True):
        super().__init__()
        self.zeros = zeros
        self.rnn = getattr(torch.nn, kind)(INPUT, HIDDEN, batch_first=True, bidirectional=bidirectional)

    def forward(self, x, lengths):
        zeros = torch.zeros(1 + self.rnn.bidirectional, ROWS, HIDDEN)
        states = None if not self.zeros else (zeros, zeros) if isinstance(self.rnn, torch.nn.LSTM) else zeros
        y, states = self.rnn(pack_padded_sequence(x, lengths, batch_first=True), states)
        return pad_packed_sequence(y, batch_first=True, total_length=STEPS)[0], *states


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def one_way(x, h, c, w, r, b):
    """MIL's lstm in one direction, gates in the order i, f, o, g: all outputs, the last hidden and the last cell state."""
    outputs = []
    for step in x:
        i, f, o, g = np.split(step @ w.T + h @ r.T + b, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs), h, c


def lstm(a):
    assert [a[name] for name in ("recurrent_activation", "cell_activation", "activation")] == ["sigmoid", "tanh", "tanh"]
    half = a["initial_h"].shape[1] // (2 if a["direction"] == "bidirectional" else 1)
    done = [one_way(a["x"], a["initial_h"][:, :half], a["initial_c"][:, :half], a["weight_ih"], a["weight_hh"], a["bias"])]
    if a["direction"] == "bidirectional":
        back = [a[name] for name in ("weight_ih_back", "weight_hh_back", "bias_back")]
        y, h, c = one_way(a["x"][::-1], a["initial_h"][:, half:], a["initial_c"][:, half:], *back)
        done.append((y[::-1], h, c))
    return tuple(np.concatenate(parts, axis=-1) for parts in zip(*done, strict=True))


def cut(a):
    where = []
    for axis, (begin, end) in enumerate(zip(a["begin"], a["end"], strict=True)):
        mask = {name: a[name] is not None and a[name][axis] for name in ("begin_mask", "end_mask", "squeeze_mask")}
        step = 1 if a["stride"] is None else a["stride"][axis]
        where.append(int(begin) if mask["squeeze_mask"] else slice(None if mask["begin_mask"] else int(begin), None if mask["end_mask"] else int(end), step))
    return a["x"][tuple(where)]


OPERATORS = {
    "lstm": lstm,
    "slice_by_index": cut,
    "concat": lambda a: np.concatenate([np.atleast_1d(one) for one in a["values"]], axis=a["axis"]),
    "fill": lambda a: np.full([int(size) for size in a["shape"]], a["value"], dtype=np.float64),
    "split": lambda a: tuple(np.split(a["x"], a["num_splits"] or len(a["split_sizes"]), axis=a["axis"])),
    "squeeze": lambda a: np.squeeze(a["x"], axis=tuple(a["axes"])),
    "expand_dims": lambda a: np.expand_dims(a["x"], tuple(a["axes"])),
    "transpose": lambda a: np.transpose(a["x"], a["perm"]),
    "stack": lambda a: np.stack(a["values"], axis=a["axis"]),
    "sub": lambda a: a["x"] - a["y"],
    "identity": lambda a: a["x"],
}


def run(program, **feeds):
    """The converted program, operator by operator, in float64."""
    block = program.functions["main"]
    values = {name: np.asarray(feeds[name], np.float64 if feeds[name].is_floating_point() else np.int64) for name in feeds}

    def value(one):
        if isinstance(one, (list, tuple)):
            return [value(each) for each in one]
        if one is None:
            return None
        found = one.val if one.val is not None else values[one.name]
        return found.astype(np.float64) if getattr(found, "dtype", None) == np.float32 else found

    for operator in block.operations:
        if operator.op_type == "const":
            continue
        made = OPERATORS[operator.op_type](dict.fromkeys(("stride", "begin_mask", "end_mask", "squeeze_mask", "num_splits"), None) | {name: value(one) for name, one in operator.inputs.items()})
        for name, one in zip(operator.outputs, made if isinstance(made, tuple) else (made,), strict=True):
            values[name.name] = one
    return [values[one.name] for one in block.outputs]


def convert(network, x, lengths):
    """The program, and what coremltools says in the meantime."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.disable(logging.NOTSET)
    logger = logging.getLogger("coremltools")
    kept, logger.handlers, logger.propagate = logger.handlers, [handler], False
    try:
        traced = torch.jit.trace(network, (x, lengths))
        inputs = [ct.TensorType("x", x.shape), ct.TensorType("lengths", lengths.shape, dtype=np.int32)]
        precision = ct.precision.FLOAT32
        return ct.convert(traced, inputs=inputs, convert_to="milinternal", compute_precision=precision), said.getvalue()
    finally:
        logger.handlers = kept
        logging.disable(logging.WARNING)


torch.manual_seed(0)
x, full, lengths = torch.randn(ROWS, STEPS, INPUT), torch.tensor([STEPS] * ROWS), torch.tensor([7, 4, 2])
for bidirectional in (False, True):
    network = Network("LSTM", bidirectional).eval()
    program, said = convert(network, x, lengths)
    assert "not efficient" in said and "ength" not in said and "ignor" not in said, said
    (operator,) = program.find_ops(op_type="lstm")
    assert not any("length" in name for name in operator.inputs), operator.inputs
    with torch.no_grad():
        wanted, right = ([one.double().numpy() for one in network(x, each)] for each in (full, lengths))
    got = run(program, x=x, lengths=full)
    assert all(np.abs(one - other).max() < 1e-5 for one, other in zip(got, wanted, strict=True)), "the program is computed wrongly"
    got = run(program, x=x, lengths=lengths)
    off = [float(np.abs(one - other).max()) for one, other in zip(got, right, strict=True)]
    shown = f"coremltools {ct.__version__}, LSTM, bidirectional {bidirectional}, lengths {lengths.tolist()}"
    print(f"{shown}: outputs off by {off[0]:.1g}, last hidden state by {off[1]:.1g}, last cell state by {off[2]:.1g}")
    assert min(off[1:]) > 0.1 and (off[0] > 0.1 if bidirectional else off[0] < 1e-5), off
    padded = all(np.abs(one - other).max() < 1e-5 for one, other in zip(got[1:], wanted[1:], strict=True))
    assert padded, "the states are no longer those after the padding"
    assert np.abs(got[1][:, 0] - right[1][:, 0]).max() < 1e-5, "the row without padding"
program, _ = convert(Network("LSTM", False, zeros=False).eval(), x, lengths)
try:
    run(program, x=x, lengths=lengths)
except ValueError as error:
    assert f"({ROWS},{4 * HIDDEN}) ({STEPS},{4 * HIDDEN})" in str(error), error
    print(f"Without initial states of its own: {STEPS} rows of state, the first length, for {ROWS} rows of text")
else:
    raise AssertionError("the number of rows is right now")
try:
    convert(Network("GRU", False).eval(), x, lengths)
except Exception as error:
    print(f"GRU: refused, {error}")
else:
    raise AssertionError("a GRU is converted now")
print("Convert without packing, one text a run, or take states from the outputs at each row's last step, forward only.")
PY
