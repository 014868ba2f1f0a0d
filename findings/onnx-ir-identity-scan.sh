#!/usr/bin/env bash
# onnx-ir 1.1.0: IdentityEliminationPass breaks recurrent networks whose body gives its state out by an Identity.
# A Scan's body has the state twice among its outputs, to carry on and to collect; the usual way to write this is an Identity.
# The pass takes it away and gives the state the name of the other output, so the body ends with two outputs of one name.
# onnx's checker accepts the file, and onnxruntime 1.32.0 runs it with wrong numbers: the state is not carried on as it should be.
# onnx's reference evaluator reads the same file right. In a plain graph two outputs end up under one name, so the one asked for
# by its old name is gone. With OutputFixPass after it all is right. No error, no warning. The issue that asked for the pass
# (onnx/ir-py number 120) has the same gap: it does not say what to do if both values are outputs.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet onnx-ir==1.1.0 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
from importlib.metadata import version
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import IdentityEliminationPass, OutputFixPass

HIDDEN, STEPS, BATCH = 8, 6, 3
ort.set_default_logger_severity(4)
random = np.random.default_rng(0)
X = random.normal(size=(STEPS, BATCH, HIDDEN)).astype(np.float32)
WEIGHTS = {name: (random.normal(size=(HIDDEN, HIDDEN)) / 3).astype(np.float32) for name in ("first", "second")}
ZERO = {"zero": np.zeros((BATCH, HIDDEN), np.float32)}


def value(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def model(nodes, outputs):
    weights = [numpy_helper.from_array(array, name) for name, array in (WEIGHTS | ZERO).items()]
    graph = helper.make_graph(nodes, "layer", [value("X", STEPS, BATCH, HIDDEN)], outputs, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made, full_check=True)
    return made


def scan(name):
    """h = tanh(x + h R), with the states of all steps as output."""
    steps = [("MatMul", ["before", name], ["recurrent"]), ("Add", ["recurrent", "x"], ["sum"]), ("Tanh", ["sum"], ["after"])]
    steps.append(("Identity", ["after"], ["y"]))
    state = [BATCH, HIDDEN]
    body = helper.make_graph(
        [helper.make_node(*step) for step in steps],
        "body",
        [value("before", *state), value("x", *state)],
        [value("after", *state), value("y", *state)],
    )
    return helper.make_node("Scan", ["zero", "X"], [f"{name}_last", f"{name}_states"], body=body, num_scan_inputs=1)


def states(name):
    """The same in NumPy, float64."""
    h, found = np.zeros((BATCH, HIDDEN)), []
    for x in X:
        h = np.tanh(x + h @ WEIGHTS[name].astype(np.float64))
        found.append(h)
    return np.stack(found)


def run(model):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"X": X})


def passed(model, *passes):
    read = ir.from_proto(model)
    for one in passes:
        read = one()(read).model
    written = ir.to_proto(read)
    onnx.checker.check_model(written, full_check=True)
    return written


def off(answer):
    return max(float(np.abs(a - b).max()) for a, b in zip(answer, wanted, strict=True))


wanted = [states(name) for name in WEIGHTS]
layer = model([scan(name) for name in WEIGHTS], [value(f"{name}_states", STEPS, BATCH, HIDDEN) for name in WEIGHTS])
broken, mended = passed(layer, IdentityEliminationPass), passed(layer, IdentityEliminationPass, OutputFixPass)
names = [one.name for one in broken.graph.node[0].attribute[0].g.output]
print(f"onnx-ir {version('onnx-ir')}: outputs of the body after IdentityEliminationPass: {names}; the checker accepts the file")
assert names == ["y", "y"], names
found = [off(run(layer)), off(run(broken)), off(run(mended)), off(ReferenceEvaluator(broken).run(None, {"X": X}))]
print("Off by: before {:.1e}, after {:.2f}, with OutputFixPass {:.1e}; the reference evaluator {:.1e}".format(*found))
assert found[1] > 0.3 and max(found[0], found[2], found[3]) < 1e-5, found

plain = model(
    [helper.make_node("Tanh", ["X"], ["Y"]), helper.make_node("Identity", ["Y"], ["hidden"])],
    [value(name, STEPS, BATCH, HIDDEN) for name in ("Y", "hidden")],
)
names = [one.name for one in passed(plain, IdentityEliminationPass).graph.output]
print(f"A graph with the outputs Y and hidden = Identity(Y) has the outputs {names}: Y is gone")
assert names == ["hidden", "hidden"], names
print("Run OutputFixPass after it.")
PY
