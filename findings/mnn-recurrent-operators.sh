#!/usr/bin/env bash
# MNN 3.6.1 converts recurrent layers to other layers than the file holds, and reports success.
# A GRU with linear_before_reset=0, ONNX's default, gives other values; with linear_before_reset=1 it is right.
# direction=reverse of LSTM, GRU and RNN runs forward. sequence_lens is dropped from all three, clip and Relu from RNN.
# An RNN with Y_h as its only output returns all of Y under that name.
# Forward LSTM and RNN, and LSTM and RNN of both directions, agree with onnxruntime 1.32.0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
mkdir quiet && printf '#!/bin/sh\nexit 1\n' > quiet/pip && chmod +x quiet/pip  # the converter calls pip by itself
venv/bin/pip install --quiet mnn==3.6.1 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import os
import subprocess
import MNN.expr
import MNN.nn
import numpy as np
import onnx
import onnxruntime as ort
from importlib.metadata import version
from onnx import TensorProto, helper, numpy_helper

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
HIDDEN, INPUT, STEPS, BATCH = 8, 8, 6, 3


def layer(operator, direction="forward", lengths=False, output="Y", **attributes):
    """One recurrent layer with random weights: X (STEPS, BATCH, INPUT) in, Y or Y_h out."""
    random = np.random.default_rng(0)
    sides, rows = 1 + (direction == "bidirectional"), GATES[operator] * HIDDEN
    shapes = {"W": (sides, rows, INPUT), "R": (sides, rows, HIDDEN), "B": (sides, 2 * rows)}
    weights = [numpy_helper.from_array((random.normal(size=s) / 2).astype(np.float32), n) for n, s in shapes.items()]
    names = ["X", "W", "R", "B"] + (["lengths"] if lengths else [])
    outputs = ["Y", "Y_h", "Y_c"][: 2 + (operator == "LSTM")] if output == "Y" else ["", "Y_h"]
    node = helper.make_node(operator, names, outputs, hidden_size=HIDDEN, direction=direction, **attributes)
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, [STEPS, BATCH, INPUT])]
    if lengths:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, [BATCH]))
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [sides, BATCH, HIDDEN]) for n in outputs if n]
    if output == "Y":
        values[0] = helper.make_tensor_value_info("Y", TensorProto.FLOAT, [STEPS, sides, BATCH, HIDDEN])
    graph = helper.make_graph([node], "layer", inputs, values, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


x = np.random.default_rng(1).normal(size=(STEPS, BATCH, INPUT)).astype(np.float32)
some = np.array([6, 3, 1], np.int32)


def run(model):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"X": x, "lengths": some}
    return session.run(None, {one.name: feeds[one.name] for one in session.get_inputs()})[0]


def other(model):
    onnx.save(model, "layer.onnx")
    command = ["venv/bin/mnnconvert", "-f", "ONNX", "--modelFile", "layer.onnx", "--MNNModel", "layer.mnn", "--bizCode", "x"]
    quiet = {**os.environ, "PATH": f"{os.getcwd()}/quiet:{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, env=quiet)
    assert "Converted Success" in done.stdout, done.stdout
    names = [one.name for one in model.graph.input]
    network = MNN.nn.load_module_from_file("layer.mnn", names, [one.name for one in model.graph.output])
    kinds = {"X": (x, MNN.expr.float), "lengths": (some, MNN.expr.int)}
    feeds = [MNN.expr.const(kinds[n][0], list(kinds[n][0].shape), MNN.expr.NCHW, kinds[n][1]) for n in names]
    answer = MNN.expr.convert(network.forward(feeds)[0], MNN.expr.NCHW)
    os.remove("layer.mnn")
    return np.array(answer.read()).reshape(answer.shape)


two = "bidirectional"
for right in (layer("LSTM"), layer("RNN"), layer("LSTM", two), layer("RNN", two), layer("GRU", linear_before_reset=1)):
    assert np.allclose(other(right), run(right), atol=1e-5)
cases = [
    *((f"{o}, reverse", layer(o, "reverse"), layer(o), "the same forward") for o in ("LSTM", "RNN")),
    ("GRU, reverse", layer("GRU", "reverse", linear_before_reset=1), layer("GRU", linear_before_reset=1), "the same forward"),
    *((f"{o} with sequence_lens", layer(o, lengths=True), layer(o), "the same without") for o in ("LSTM", "RNN")),
    (
        "GRU with sequence_lens",
        layer("GRU", lengths=True, linear_before_reset=1),
        layer("GRU", linear_before_reset=1),
        "the same without",
    ),
    ("RNN with clip", layer("RNN", clip=0.5), layer("RNN"), "the same without"),
    ("RNN with Relu", layer("RNN", activations=["Relu"]), layer("RNN"), "the same with Tanh"),
]
for name, model, taken, words in cases:
    got = other(model)
    off, same = float(np.abs(got - run(model)).max()), bool(np.allclose(got, run(taken), atol=1e-5))
    print(f"MNN {version('mnn')}, {name}: {off:.2f} from onnxruntime {ort.__version__}; equal to {words}: {same}")
    assert same and off > 0.02, (name, off, same)
off = float(np.abs(other(layer("GRU")) - run(layer("GRU"))).max())
print(f"GRU with ONNX's defaults: {off:.2f} from onnxruntime")
assert off > 0.1, off
last = other(layer("RNN", output="Y_h"))
print("RNN with Y_h alone: MNN returns the shape", last.shape, "in place of", run(layer("RNN", output="Y_h")).shape)
assert last.shape == (STEPS, 1, BATCH, HIDDEN), last.shape
PY
