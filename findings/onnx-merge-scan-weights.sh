#!/usr/bin/env bash
# onnx 1.23.2: onnx.compose.merge_models with prefix2 gives the second model's Scan the weights of the first.
# The prefix renames the weights, and all uses of them but those inside the body of a Scan. Two layers of one architecture,
# stacked, share their names: the second layer's body then reads the first layer's recurrent weights.
# checker and onnxruntime 1.32.0 accept the file; onnxruntime logs that a weight is not used. With a prefix for both models
# the name is defined nowhere, and merge_models refuses its own result.
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
from onnx import TensorProto, compose, helper, numpy_helper

HIDDEN, STEPS, BATCH = 8, 6, 3


def value(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def layer(seed):
    """h = tanh(x W + h R) as a Scan: X (STEPS, BATCH, HIDDEN) in, Y the same out; the body reads R from the graph around it."""
    random = np.random.default_rng(seed)
    weights = [numpy_helper.from_array((random.normal(size=(HIDDEN, HIDDEN)) / 2).astype(np.float32), n) for n in "WR"]
    weights.append(numpy_helper.from_array(np.zeros((BATCH, HIDDEN), np.float32), "zero"))
    steps = [("MatMul", ["before", "R"], ["recurrent"]), ("Add", ["recurrent", "x"], ["sum"]), ("Tanh", ["sum"], ["after"])]
    steps.append(("Identity", ["after"], ["y"]))
    body = helper.make_graph(
        [helper.make_node(*step) for step in steps],
        "body",
        [value("before", BATCH, HIDDEN), value("x", BATCH, HIDDEN)],
        [value("after", BATCH, HIDDEN), value("y", BATCH, HIDDEN)],
    )
    project = helper.make_node("MatMul", ["X", "W"], ["projected"])
    scan = helper.make_node("Scan", ["zero", "projected"], ["last", "Y"], body=body, num_scan_inputs=1)
    shape = (STEPS, BATCH, HIDDEN)
    graph = helper.make_graph([project, scan], "layer", [value("X", *shape)], [value("Y", *shape)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model, x):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def swapped(model, weights):
    """The model with R of another one."""
    other = onnx.ModelProto.FromString(model.SerializeToString())
    for one in other.graph.initializer:
        if one.name == "R":
            one.CopyFrom(next(w for w in weights.graph.initializer if w.name == "R"))
    return other


x = np.random.default_rng(3).normal(size=(STEPS, BATCH, HIDDEN)).astype(np.float32)
lower, upper = layer(0), layer(1)
merged = compose.merge_models(lower, upper, io_map=[("Y", "X")], prefix2="upper/")
onnx.checker.check_model(merged, full_check=True)
wanted, got = run(upper, run(lower, x)), run(merged, x)
off = float(np.abs(wanted - got).max())
taken = float(np.abs(run(swapped(upper, lower), run(lower, x)) - got).max())
print(f"onnx {onnx.__version__}: merged layers are off by {off:.2f}, without an error.")
print(f"They equal, to {taken:.1e}, an upper layer with the recurrent weights of the lower one.")
assert off > 0.1 and taken < 1e-6, (off, taken)
try:
    compose.merge_models(lower, upper, io_map=[("Y", "X")], prefix1="lower/", prefix2="upper/")
except onnx.checker.ValidationError as error:
    assert "'R'" in str(error), error
    print("With a prefix for both models the body's R is defined nowhere, and merge_models refuses its own result.")
else:
    raise AssertionError("both prefixes work now")
PY
