#!/usr/bin/env bash
# onnxruntime 1.32.0: after quantize_dynamic, values in the padding change the answer of an LSTM for the real steps.
# sequence_lens tells the operator which steps are padding. The float32 LSTM honours it: the answer is bit for bit the same.
# DynamicQuantizeLSTM takes the scale of its 8 bit input from the whole tensor, padded steps included.
# Large values there leave few levels for the real steps.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 sympy==1.14.0
venv/bin/python -W ignore - <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
HIDDEN, INPUT, STEPS, BATCH = 8, 8, 6, 3


def layer(operator, direction="forward", lengths=False, **attributes):
    """One recurrent layer with random weights: X (STEPS, BATCH, INPUT) in, Y out."""
    random = np.random.default_rng(0)
    sides, rows = 1 + (direction == "bidirectional"), GATES[operator] * HIDDEN
    shapes = {"W": (sides, rows, INPUT), "R": (sides, rows, HIDDEN), "B": (sides, 2 * rows)}
    weights = [numpy_helper.from_array((random.normal(size=s) / 2).astype(np.float32), n) for n, s in shapes.items()]
    names = ["X", "W", "R", "B"] + (["lengths"] if lengths else [])
    node = helper.make_node(operator, names, ["Y"], hidden_size=HIDDEN, direction=direction, **attributes)
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, [STEPS, BATCH, INPUT])]
    if lengths:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, [BATCH]))
    outputs = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [STEPS, sides, BATCH, HIDDEN])]
    graph = helper.make_graph([node], "layer", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model, **feeds):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


x = np.random.default_rng(1).normal(size=(STEPS, BATCH, INPUT)).astype(np.float32)


import logging
from onnxruntime.quantization import quantize_dynamic

logging.disable(logging.ERROR)
onnx.save(layer("LSTM", lengths=True), "float.onnx")
quantize_dynamic("float.onnx", "int8.onnx")
int8 = onnx.load("int8.onnx")
assert [node.op_type for node in int8.graph.node] == ["DynamicQuantizeLSTM"]
lengths = np.array([6, 3, 1], np.int32)
noisy = x.copy()
noisy[3:, 1] = noisy[1:, 2] = 100.0  # padding only
moved = {}
for name, model in (("float32", onnx.load("float.onnx")), ("int8", int8)):
    quiet, loud = run(model, X=x, lengths=lengths), run(model, X=noisy, lengths=lengths)
    assert not quiet[3:, :, 1].any() and not loud[3:, :, 1].any()
    moved[name] = float(np.abs(quiet - loud).max())
exact = run(onnx.load("float.onnx"), X=x, lengths=lengths)
error = float(np.abs(run(int8, X=x, lengths=lengths) - exact).max())
print(f"onnxruntime {ort.__version__}: padding of 100 moves the real steps by {moved}; int8 alone costs {error:.4f}.")
assert moved["float32"] == 0.0 and moved["int8"] > 0.1 and error < 0.02, (moved, error)
print("Set padded steps to 0 before a dynamically quantised LSTM: sequence_lens does not keep them out of its scale.")
PY
