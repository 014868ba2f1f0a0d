#!/usr/bin/env bash
# paddle2onnx 2.1.0 drops sequence_length of Paddle's LSTM and GRU, and keeps the last states of the last layer alone.
# The lengths stay an input of the ONNX file, which takes them and answers as if every row were full: a padded row has other
# last states than alone, and the backward direction begins in the padding. The export reports success and no warning.
# Of stacked layers the outputs are right, but the states are those of the last layer: 1 row in place of 2, with both
# directions 2 in place of 4, so state[0] is not the first layer's. Only onnxruntime 1.32.0 logs that a shape differs.
# The documentation of Paddle: with sequence_length the elements from the valid length on are paddings; the final states have
# num_layers * num_directions rows. The same saved network in paddle.jit.load is right in both. One layer without lengths
# is exported right. No issue of its tracker is known that names either.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet paddlepaddle==3.3.1 paddle2onnx==2.1.0 onnxruntime==1.32.0 onnx==1.17.0 numpy==2.4.6
cat > networks.py <<'PY'
import contextlib
import os
import sys

import numpy as np
import onnxruntime as ort


@contextlib.contextmanager
def heard(path):
    """All that the process prints, in C++ too, goes to a file."""
    sys.stdout.flush()
    kept = os.dup(1), os.dup(2)
    with open(path, "wb") as file:
        os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os.dup2(kept[0], 1), os.dup2(kept[1], 2)


with heard("import.txt"):  # Paddle recommends ccache
    import paddle
    import paddle2onnx
    from paddle.static import InputSpec

ort.set_default_logger_severity(3)  # of stacked layers it logs that the shape of a state differs
INPUT, HIDDEN, STEPS, LENGTHS = 5, 6, 7, np.array([7, 4, 2])


class Network(paddle.nn.Layer):
    def __init__(self, kind, layers, direction):
        super().__init__()
        self.kind, self.sides = kind, layers * (2 if direction == "bidirect" else 1)
        self.rnn = getattr(paddle.nn, kind)(INPUT, HIDDEN, num_layers=layers, direction=direction)

    def forward(self, x, lengths=None):
        y, states = self.rnn(x, None, sequence_length=lengths)
        if self.kind == "LSTM":
            return y, states[0], states[1]
        return y, states


def export(network, name, lengths):
    """Save a network, load it again, and write it as ONNX: the loaded one, a session, and what was said."""
    spec = [InputSpec([None, None, INPUT], "float32", "x")] + [InputSpec([None], "int64", "lengths")] * lengths
    with heard("said.txt"):
        paddle.jit.save(network, name, input_spec=spec)
        paddle2onnx.export(name + ".json", name + ".pdiparams", name + ".onnx", opset_version=17)
    session = ort.InferenceSession(name + ".onnx", providers=["CPUExecutionProvider"])
    return paddle.jit.load(name), session, open("said.txt").read()


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def alone(network, row):
    """The last states of a network of one forward layer for one row, in float64, by the equations of Paddle's documentation."""
    w, r, b, c = (one.numpy().astype(np.float64) for one in network.rnn.parameters()[:4])
    h = cell = np.zeros(HIDDEN)
    for x in row.astype(np.float64):
        if network.kind == "LSTM":
            i, f, g, o = np.split(w @ x + b + r @ h + c, 4)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(cell)
        else:
            (xr, xz, xn), (hr, hz, hn) = np.split(w @ x + b, 3), np.split(r @ h + c, 3)
            z = sigmoid(xz + hz)
            h = z * h + (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn)
    return h
PY
cat > run.py <<'PY'
from networks import *

paddle.seed(0)
x = np.random.default_rng(0).normal(size=(len(LENGTHS), STEPS, INPUT)).astype(np.float32)
for kind in ("LSTM", "GRU"):
    for layers, direction in ((1, "forward"), (1, "bidirect"), (2, "forward"), (2, "bidirect")):
        for lengths in (False, True):
            network = Network(kind, layers, direction)
            network.eval()
            loaded, session, said = export(network, f"{kind}{layers}{direction}{lengths}", lengths)
            wanted = [one.numpy() for one in loaded(paddle.to_tensor(x), *[paddle.to_tensor(LENGTHS)] * lengths)]
            got = session.run(None, {"x": x} | ({"lengths": LENGTHS} if lengths else {}))
            assert "ERROR" not in said and "ength" not in said and "state" not in said, said
            real = [float(np.abs(got[0][row, :end] - wanted[0][row, :end]).max()) for row, end in enumerate(LENGTHS)]
            assert wanted[1].shape[0] == network.sides and got[1].shape[0] == network.sides // layers
            states = float(np.abs(got[1] - wanted[1][-got[1].shape[0] :]).max())
            said = f"{kind}, {layers} x {direction}, {'with' if lengths else 'without'} lengths: real steps off by {max(real):.1g}"
            last = f"last states {len(got[1])} in place of {len(wanted[1])}, off by {states:.1g}"
            print(f"paddle2onnx {paddle2onnx.__version__}, {said}; {last}")
            if not lengths:
                assert max(real) < 1e-5 and states < 1e-5, (real, states)
                continue
            assert [one.name for one in session.get_inputs()] == ["x", "lengths"]
            assert states > 0.05 and (max(real) > 0.05 or direction == "forward"), (real, states)
            full = session.run(None, {"x": x, "lengths": np.full_like(LENGTHS, STEPS)})
            assert all((one == other).all() for one, other in zip(got, full, strict=True)), "the lengths are read now"
            if (layers, direction) == (1, "forward"):
                for row, end in enumerate(LENGTHS):
                    right = alone(network, x[row, :end])
                    assert np.abs(wanted[1][0, row] - right).max() < 1e-5
                    assert (np.abs(got[1][0, row] - right).max() > 0.05) == (end < STEPS)
print("Cut texts to one length a batch, export layer by layer, and compare with paddle.jit.load.")
PY
GLOG_minloglevel=2 venv/bin/python -W ignore run.py
