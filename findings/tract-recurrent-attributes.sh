#!/usr/bin/env bash
# tract 0.23.9 runs an ONNX layer of direction reverse forward: LSTM, GRU and RNN, outputs and last states. It drops clip and
# the activations of all three, and input_forget of LSTM, too. No error and no warning; the answers are those of the plain
# forward layer. One operator of both directions is right, as are both kinds of GRU, initial states and peepholes, while
# sequence_lens is refused. onnxruntime 1.32.0 honours all of them. A network with a reverse layer of its own, as converters
# write it beside a forward one, then reads its texts from the wrong end.
# The tracker of tract has the dropped attributes (number 2751, open), not the direction.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet tract==0.23.9 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
from importlib.metadata import version
import numpy as np
import onnx
import onnxruntime as ort
import tract
from onnx import TensorProto, helper, numpy_helper

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
HIDDEN, INPUT, STEPS, BATCH = 8, 8, 6, 3


def value(name, *shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, list(shape))


def layer(operator, direction="forward", lengths=False, peepholes=False, **attributes):
    """One recurrent layer with random weights, biases and first states: X in, Y and the last state out."""
    random = np.random.default_rng(0)
    sides, rows = 1 + (direction == "bidirectional"), GATES[operator] * HIDDEN
    shapes = {"W": (sides, rows, INPUT), "R": (sides, rows, HIDDEN), "B": (sides, 2 * rows), "h": (sides, BATCH, HIDDEN)}
    names = ["X", "W", "R", "B", "lengths" if lengths else "", "h"]
    if operator == "LSTM":
        shapes["c"], names = shapes["h"], [*names, "c"]
    if peepholes:
        shapes["P"], names = (sides, 3 * HIDDEN), [*names, "P"]
    weights = [numpy_helper.from_array((random.normal(size=s) / 2).astype(np.float32), n) for n, s in shapes.items()]
    node = helper.make_node(operator, names, ["Y", "Y_h"], hidden_size=HIDDEN, direction=direction, **attributes)
    inputs = [value("X", STEPS, BATCH, INPUT)] + ([value("lengths", BATCH, kind=TensorProto.INT32)] if lengths else [])
    outputs = [value("Y", STEPS, sides, BATCH, HIDDEN), value("Y_h", sides, BATCH, HIDDEN)]
    graph = helper.make_graph([node], "layer", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


x = np.random.default_rng(1).normal(size=(STEPS, BATCH, INPUT)).astype(np.float32)


def run(model):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"X": x})


def other(model):
    onnx.save(model, "layer.onnx")
    return [one.to_numpy() for one in tract.onnx().load("layer.onnx").into_model().into_runnable().run([x])]


def apart(got, wanted):
    return max(float(np.abs(one - two).max()) for one, two in zip(got, wanted, strict=True))


release = version("tract")
dull = {"LSTM": ["HardSigmoid", "Softsign", "Softsign"], "GRU": ["HardSigmoid", "Softsign"], "RNN": ["Softsign"]}
for operator in GATES:
    plain = layer(operator)
    cases = {
        "direction=reverse": layer(operator, "reverse"),
        "clip": layer(operator, clip=0.5),
        "activations": layer(operator, activations=dull[operator]),
    }
    if operator == "LSTM":
        cases["input_forget"] = layer(operator, input_forget=1)
    for name, model in cases.items():
        got = other(model)
        off, same = apart(got, run(model)), apart(got, run(plain)) < 1e-5
        print(f"tract {release}, {operator}, {name}: off by {off:.2f}; the plain forward layer's answer: {same}")
        assert same and off > 0.05, (operator, name, off, same)
    right = {"plain": plain, "both directions": layer(operator, "bidirectional")}
    if operator == "LSTM":
        right["peepholes"] = layer(operator, peepholes=True)
    if operator == "GRU":
        right["linear_before_reset"] = layer(operator, linear_before_reset=1)
    for name, model in right.items():
        off = apart(other(model), run(model))
        print(f"tract {release}, {operator}, {name}: off by {off:.0e}")
        assert off < 1e-5, (operator, name, off)
    try:
        other(layer(operator, lengths=True))
    except Exception as error:
        assert "seq_len" in str(error), error
    else:
        raise AssertionError(f"sequence_lens of {operator} is taken now")
print("sequence_lens is refused. Reverse X before a forward layer, and its Y behind it, in place of direction=reverse.")
PY
