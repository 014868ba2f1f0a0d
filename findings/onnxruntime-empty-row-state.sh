#!/usr/bin/env bash
# onnxruntime 1.32.0: a row of length 0 loses its initial state. LSTM, GRU and RNN return 0 for it in Y_h (and Y_c),
# not initial_h (and initial_c). openvino 2026.4.1 returns 0 as well. A row of length 1 or more is right.
# Texts that arrive in pieces are run in batches, the state of one piece fed to the next.
# A text with no new token in one piece starts from nothing in the next, in both runtimes, without an error.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet openvino==2026.4.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
import openvino
from onnx import TensorProto, helper, numpy_helper

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
HIDDEN, INPUT, STEPS, BATCH = 8, 8, 4, 3


def layer(operator):
    """One forward layer: X (STEPS, BATCH, INPUT), lengths and states in, the states after each row's length out."""
    random = np.random.default_rng(0)
    rows, states = GATES[operator] * HIDDEN, ["h", "c"] if operator == "LSTM" else ["h"]
    shapes = {"W": (1, rows, INPUT), "R": (1, rows, HIDDEN), "B": (1, 2 * rows)}
    weights = [numpy_helper.from_array((random.normal(size=s) / 2).astype(np.float32), n) for n, s in shapes.items()]
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, [STEPS, BATCH, INPUT])]
    inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, [BATCH]))
    inputs += [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, BATCH, HIDDEN]) for n in states]
    outputs = [helper.make_tensor_value_info(n + "_last", TensorProto.FLOAT, [1, BATCH, HIDDEN]) for n in states]
    names = [""] + [one.name for one in outputs]
    node = helper.make_node(operator, ["X", "W", "R", "B", "lengths", *states], names, hidden_size=HIDDEN)
    graph = helper.make_graph([node], "layer", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def first(model):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)


def second(model):
    core = openvino.Core()
    ready = core.compile_model(core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda feeds: list(ready(feeds).values())


random = np.random.default_rng(1)
pieces = [random.normal(size=(STEPS, BATCH, INPUT)).astype(np.float32) for _ in range(3)]
lengths = np.array([[4, 2, 3], [4, 0, 1], [4, 2, 2]], np.int32)  # row 1 has no new token in the second piece
for operator in GATES:
    model = layer(operator)
    states = ["h", "c"] if operator == "LSTM" else ["h"]
    for name, make in (("onnxruntime " + ort.__version__, first), ("openvino " + openvino.__version__.split("-")[0], second)):
        run = make(model)
        start = {s: random.normal(size=(1, BATCH, HIDDEN)).astype(np.float32) for s in states}
        empty = run({"X": pieces[0], "lengths": np.array([4, 0, 1], np.int32), **start})
        assert all(not one[0, 1].any() and one[0, 0].any() and one[0, 2].any() for one in empty), empty
        batch = {s: np.zeros((1, BATCH, HIDDEN), np.float32) for s in states}
        alone = dict(batch)  # the same pieces; a row without new tokens keeps its state
        for piece, count in zip(pieces, lengths):
            batch = dict(zip(states, run({"X": piece, "lengths": count, **batch})))
            after = dict(zip(states, run({"X": piece, "lengths": np.maximum(count, 1), **alone})))
            alone = {s: np.where(count[None, :, None] > 0, after[s], alone[s]) for s in states}
        off = np.abs(batch["h"] - alone["h"]).max(axis=2)[0]
        print(f"{name}, {operator}: states of length 0 are 0; after three pieces the rows are off by {off.round(3)}")
        assert off[1] > 0.02 and off[0] < 1e-5 and off[2] < 1e-5, off
print("Keep the state of rows of length 0 yourself: neither runtime returns the state that it was given.")
PY
