#!/usr/bin/env bash
# onnx 1.23.2: version_converter leaves Hardmax as it is from opset 12 to 13, where its meaning changed.
# Up to opset 12 it flattens from its axis on, 1 by default; from 13 on it works along one axis, the last by default. For Softmax
# and LogSoftmax, which changed in the same way, the converter puts in what keeps the numbers; for Hardmax it changes the number
# of the opset alone. A hard attention over the steps of an LSTM, scores of [batch, steps, 1], picks one step before; after it,
# each step is a maximum by itself, the weights are all 1, and the context is the sum of all steps. checker and onnxruntime
# accept the file; no error, no warning. Not known to its tracker, as far as seen.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper, version_converter

HIDDEN, INPUT, STEPS, BATCH = 8, 5, 6, 3
ort.set_default_logger_severity(4)
random = np.random.default_rng(0)
SHAPES = {"W": (1, 4 * HIDDEN, INPUT), "R": (1, 4 * HIDDEN, HIDDEN), "B": (1, 8 * HIDDEN), "v": (HIDDEN, 1)}
WEIGHTS = {name: (random.normal(size=shape) / 2).astype(np.float32) for name, shape in SHAPES.items()}
X = random.normal(size=(STEPS, BATCH, INPUT)).astype(np.float32)


def attention(kind, **axis):
    """The states of an LSTM, weighted over the steps: outputs [BATCH, HIDDEN] and the weights [BATCH, STEPS, 1]."""
    nodes = [
        helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y"], hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["Y"], ["states"], axes=[1]),
        helper.make_node("Transpose", ["states"], ["rows"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["rows", "v"], ["scores"]),
        helper.make_node(kind, ["scores"], ["weights"], **axis),
        helper.make_node("Mul", ["weights", "rows"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted"], ["context"], axes=[1], keepdims=0),
    ]
    shapes = {"X": [STEPS, BATCH, INPUT], "context": [BATCH, HIDDEN], "weights": [BATCH, STEPS, 1]}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    weights = [numpy_helper.from_array(array, name) for name, array in WEIGHTS.items()]
    graph = helper.make_graph(nodes, "attention", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    onnx.checker.check_model(model, full_check=True)
    return model


def expected(hard):
    """The same in NumPy, float64."""
    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    w, r, b = (WEIGHTS[name][0].astype(np.float64) for name in "WRB")
    h, c, rows = np.zeros((BATCH, HIDDEN)), np.zeros((BATCH, HIDDEN)), []
    for step in X.astype(np.float64):
        i, o, f, candidate = np.split(step @ w.T + h @ r.T + b[: 4 * HIDDEN] + b[4 * HIDDEN :], 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
        h = sigmoid(o) * np.tanh(c)
        rows.append(h)
    rows = np.stack(rows, axis=1)
    scores = (rows @ WEIGHTS["v"].astype(np.float64))[..., 0]
    powers = np.exp(scores)
    weights = np.eye(STEPS)[scores.argmax(axis=1)] if hard else powers / powers.sum(axis=1, keepdims=True)
    return (weights[..., None] * rows).sum(axis=1), rows.sum(axis=1)


def run(model):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"X": X})


def off(a, b):
    return float(np.abs(a - b).max())


for kind, given in (("Softmax", {}), ("Hardmax", {}), ("Hardmax", {"axis": 1})):
    model, (wanted, summed) = attention(kind, **given), expected(kind == "Hardmax")
    before = off(run(model)[0], wanted)
    for opset in (12, 13, 17, 22):
        converted = version_converter.convert_version(model, opset)
        onnx.checker.check_model(converted, full_check=True)
        context, weights = run(converted)
        sums = weights.sum(axis=1).ravel().round(3).tolist()
        print(f"onnx {onnx.__version__}, {kind} {given}: context off by {before:.1e} at opset 11, {off(context, wanted):.1e} at {opset}; weights add up to {sums}")
        wrong = kind == "Hardmax" and not given and opset > 12
        assert before < 1e-5 and (off(context, wanted) > 0.1) == wrong, (kind, given, opset)
        assert not wrong or off(context, summed) < 1e-5, "not the sum of all steps"

values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3, 4]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Hardmax", ["x"], ["y"], axis=1)], "one", values[:1], values[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
x = random.normal(size=(2, 3, 4)).astype(np.float32)
ones = []
for one in (model, version_converter.convert_version(model, 13)):
    session = ort.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"])
    ones.append(int(session.run(None, {"x": x})[0].sum()))
print(f"Hardmax of [2, 3, 4] with axis=1: {ones[0]} ones at opset 11, one for each of the 2 rows; {ones[1]} at 13")
assert ones == [2, 8], ones
print("Put a Flatten before Hardmax and a Reshape after it before the opset is changed.")
PY
