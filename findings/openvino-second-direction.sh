#!/usr/bin/env bash
# OpenVINO 2026.4.1: a bidirectional LSTM or RNN uses the first direction's activations for both directions.
# The ONNX operator takes one list with the activations of both. OpenVINO drops the second half without a warning.
# It drops input_forget=1 (input and forget gate coupled) and the peepholes (P) of an LSTM as well. clip is honoured as in
# onnxruntime 1.32.0, which honours all of these.
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
from onnx import TensorProto, helper, numpy_helper

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
HIDDEN, INPUT, STEPS, BATCH = 8, 8, 6, 3


def layer(operator, direction="forward", peepholes=False, **attributes):
    """One recurrent layer with random weights: X (STEPS, BATCH, INPUT) in, Y out."""
    random = np.random.default_rng(0)
    sides, rows = 1 + (direction == "bidirectional"), GATES[operator] * HIDDEN
    shapes = {"W": (sides, rows, INPUT), "R": (sides, rows, HIDDEN), "B": (sides, 2 * rows)}
    weights = [numpy_helper.from_array((random.normal(size=s) / 2).astype(np.float32), n) for n, s in shapes.items()]
    names = ["X", "W", "R", "B"] + (["", "", "", "P"] if peepholes else [])
    if peepholes:
        weights.append(numpy_helper.from_array(random.normal(size=(sides, 3 * HIDDEN)).astype(np.float32), "P"))
    node = helper.make_node(operator, names, ["Y"], hidden_size=HIDDEN, direction=direction, **attributes)
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, [STEPS, BATCH, INPUT])]
    outputs = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [STEPS, sides, BATCH, HIDDEN])]
    graph = helper.make_graph([node], "layer", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model, **feeds):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


x = np.random.default_rng(1).normal(size=(STEPS, BATCH, INPUT)).astype(np.float32)


import openvino


def other(model):
    core = openvino.Core()
    graph = core.read_model(model.SerializeToString())
    return core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x])[0]


two = "bidirectional"
first, second = ["Sigmoid", "Tanh", "Tanh"], ["Sigmoid", "Sigmoid", "Tanh"]
same = layer("LSTM", two, activations=first * 2)
mixed = layer("LSTM", two, activations=first + second)
elman_same, elman_mixed = layer("RNN", two, activations=["Tanh"] * 2), layer("RNN", two, activations=["Tanh", "Sigmoid"])
coupled, clipped = layer("LSTM", input_forget=1), layer("LSTM", clip=0.5)
for right in (same, elman_same, clipped):
    assert np.allclose(other(right), run(right, X=x), atol=1e-4)
release = openvino.__version__.split("-")[0]
for name, model, plain in (
    ("LSTM, other activations backwards", mixed, same),
    ("RNN, other activation backwards", elman_mixed, elman_same),
    ("LSTM, input_forget=1", coupled, layer("LSTM")),
    ("LSTM, peepholes", layer("LSTM", peepholes=True), layer("LSTM")),
):
    off = float(np.abs(other(model) - run(model, X=x)).max())
    ignored = bool(np.allclose(other(model), other(plain), atol=1e-6))
    print(f"openvino {release}, {name}: {off:.2f} from onnxruntime {ort.__version__}; same as without: {ignored}")
    assert ignored and off > 0.02, (name, off, ignored)
print("OpenVINO compiles these layers without a warning and answers as if the attribute were not there.")
PY
