#!/usr/bin/env bash
# onnx 1.23.2: the reference evaluator joins the outputs of a Loop's steps end to end, where ONNX puts each beside the last.
# A Loop over 6 steps that gives a state of [3, 8] at each has an output of [6, 3, 8], by ONNX's own shape inference and in
# onnxruntime 1.32.0. The evaluator's is [18, 8], for numbers it is [6, 1] in place of [6], and for 0 steps it fails.
# Vectors of one axis are right. No error and no warning: what comes behind takes batch for time.
# A Loop without a condition, ONNX's form of a for loop, runs no step there: its last state is the first one.
# The evaluator's Scan, which writes the same network, is right. No issue of its tracker is known that names either.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

HIDDEN, STEPS, BATCH = 8, 6, 3


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def finished(nodes, inputs, outputs, stored=()):
    graph = helper.make_graph(nodes, "network", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def looped(shape, steps, condition="yes", kept=True):
    """h = tanh(x + h / 2) at each step, as a Loop: the last state and, if kept, the states of all steps."""
    body = helper.make_graph(
        [
            helper.make_node("Gather", ["X", "step"], ["x"]),
            helper.make_node("Mul", ["before", "half"], ["kept"]),
            helper.make_node("Add", ["x", "kept"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["after"]),
            helper.make_node("Identity", ["after"], ["y"]),
            helper.make_node("Identity", ["going"], ["on"]),
        ],
        "body",
        [value("step", [], TensorProto.INT64), value("going", [], TensorProto.BOOL), value("before", shape)],
        [value("on", [], TensorProto.BOOL), value("after", shape), value("y", shape)][: 3 if kept else 2],
    )
    loop = helper.make_node("Loop", ["steps", condition, "start"], ["last", "Y"][: 1 + kept], body=body)
    stored = [
        numpy_helper.from_array(np.array(steps, np.int64), "steps"),
        numpy_helper.from_array(np.float32(0.5), "half"),
        numpy_helper.from_array(np.zeros(shape, np.float32), "start"),
    ]
    if condition:
        stored.append(numpy_helper.from_array(np.array(True), condition))
    outputs = [value("last", shape), value("Y", ["trips", *shape])][: 1 + kept]
    return finished([loop], [value("X", [STEPS, *shape])], outputs, stored)


def scanned(shape):
    """The same as a Scan."""
    half = numpy_helper.from_array(np.float32(0.5), "half")
    nodes = [("Mul", ["before", "half"], ["kept"]), ("Add", ["x", "kept"], ["sum"]), ("Tanh", ["sum"], ["after"])]
    nodes.append(("Identity", ["after"], ["y"]))
    body = helper.make_graph(
        [helper.make_node(*node) for node in nodes],
        "body",
        [value("before", shape), value("x", shape)],
        [value("after", shape), value("y", shape)],
    )
    zero = numpy_helper.from_array(np.zeros(shape, np.float32), "start")
    scan = helper.make_node("Scan", ["start", "X"], ["last", "Y"], body=body, num_scan_inputs=1)
    outputs = [value("last", shape), value("Y", [STEPS, *shape])]
    return finished([scan], [value("X", [STEPS, *shape])], outputs, [half, zero])


def axes(model):
    """How many axes shape inference gives Y where the file does not say."""
    model.graph.output[1].type.tensor_type.ClearField("shape")
    return len(shape_inference.infer_shapes(model, strict_mode=True).graph.output[1].type.tensor_type.shape.dim)


def both(model, x):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"X": x}), ReferenceEvaluator(model).run(None, {"X": x})


def wanted(x):
    state, states = np.zeros(x.shape[1:]), []
    for step in x.astype(np.float64):
        state = np.tanh(step + state / 2)
        states.append(state)
    return np.stack(states)


for shape, seen in (([BATCH, HIDDEN], (STEPS * BATCH, HIDDEN)), ([], (STEPS, 1)), ([HIDDEN], (STEPS, HIDDEN))):
    x = np.random.default_rng(0).normal(size=(STEPS, *shape)).astype(np.float32)
    states = wanted(x)
    (last, y), (other_last, other_y) = both(looped(shape, STEPS), x)
    print(
        f"state {shape}, {STEPS} steps: by shape inference {axes(looped(shape, STEPS))} axes; onnxruntime {ort.__version__} "
        f"{list(y.shape)}, reference evaluator of onnx {onnx.__version__} {list(other_y.shape)}"
    )
    assert axes(looped(shape, STEPS)) == y.ndim == states.ndim
    assert np.allclose(y, states, atol=1e-6) and np.allclose(last, states[-1], atol=1e-6)
    assert np.allclose(other_last, states[-1], atol=1e-6)
    assert other_y.shape == seen and np.allclose(other_y.reshape(states.shape), states, atol=1e-6), other_y.shape
    for answer in both(scanned(shape), x):
        assert np.allclose(answer[1], states, atol=1e-6)
model = looped([BATCH, HIDDEN], 0)
x = np.zeros((STEPS, BATCH, HIDDEN), np.float32)
session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
print(f"state {[BATCH, HIDDEN]}, 0 steps: onnxruntime {list(session.run(None, {'X': x})[1].shape)}")
try:
    ReferenceEvaluator(model).run(None, {"X": x})
except ValueError as error:
    print("reference evaluator:", error)
else:
    raise AssertionError("a Loop of 0 steps works now")
x = np.random.default_rng(0).normal(size=(STEPS, BATCH, HIDDEN)).astype(np.float32)
(last,), (other_last,) = both(looped([BATCH, HIDDEN], STEPS, condition="", kept=False), x)
print(f"no condition, {STEPS} steps: the reference evaluator's last state is the first: {not other_last.any()}")
assert np.allclose(last, wanted(x)[-1], atol=1e-6) and not other_last.any()
print("As a Scan the same network has the same output in both.")
PY
