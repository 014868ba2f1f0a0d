#!/usr/bin/env bash
# iree-base-compiler 3.13.0: a Scan over an axis of time without a fixed size gives wrong numbers, without a word.
# The same Scan with all sizes fixed agrees with float64 to 1e-6. Only the names of the axes in the file differ: X is
# ["time", 3, 4] in place of [5, 3, 4], and the function is called with the same array. iree-compile says nothing.
# A recurrent layer in a file for texts of any length is written so. onnxruntime 1.32.0 is right with both files.
# torch-mlir, which reads the file for IREE, knows wrong numbers with free axes for attention (number 4743), not for Scan.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet iree-base-compiler==3.13.0 iree-base-runtime==3.13.0 onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 sympy==1.14.0
venv/bin/python -W ignore - <<'PY'
import subprocess
import iree.runtime
import numpy as np
import onnx
import onnxruntime as ort
from importlib.metadata import version
from onnx import TensorProto, helper, numpy_helper

STEPS, BATCH, HIDDEN = 5, 3, 4
random = np.random.default_rng(0)
recurrent = (random.normal(size=(HIDDEN, HIDDEN)) / 2).astype(np.float32)
start = random.normal(size=(BATCH, HIDDEN)).astype(np.float32)
x = random.normal(size=(STEPS, BATCH, HIDDEN)).astype(np.float32)


def value(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def elman(steps):
    """h = tanh(x + h R) as a Scan over the first axis of X: all states out."""
    nodes = [("MatMul", ["before", "R"], ["product"]), ("Add", ["product", "step"], ["sum"]), ("Tanh", ["sum"], ["after"])]
    nodes.append(("Identity", ["after"], ["state"]))
    body = helper.make_graph(
        [helper.make_node(*node) for node in nodes],
        "body",
        [value("before", BATCH, HIDDEN), value("step", BATCH, HIDDEN)],
        [value("after", BATCH, HIDDEN), value("state", BATCH, HIDDEN)],
        [numpy_helper.from_array(recurrent, "R")],
    )
    node = helper.make_node("Scan", ["start", "X"], ["last", "Y"], body=body, num_scan_inputs=1)
    inputs = [value("start", BATCH, HIDDEN), value("X", steps, BATCH, HIDDEN)]
    graph = helper.make_graph([node], "elman", inputs, [value("Y", steps, BATCH, HIDDEN)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def tool(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:500]
    return done.stdout + done.stderr


def compiled(model):
    onnx.save(model, "elman.onnx")
    said = tool("venv/bin/iree-import-onnx", "elman.onnx", "-o", "elman.mlir")
    target = ["--iree-hal-target-backends=llvm-cpu", "--iree-llvmcpu-target-cpu=generic"]
    said += tool("venv/bin/iree-compile", "elman.mlir", *target, "-o", "elman.vmfb")
    assert not said.strip(), said
    config = iree.runtime.Config("local-sync")
    context = iree.runtime.SystemContext(config=config)
    with open("elman.vmfb", "rb") as file:
        context.add_vm_module(iree.runtime.VmModule.copy_buffer(config.vm_instance, file.read()))
    return np.asarray(context.modules.module["elman"](start, x).to_host())


state, wanted = start.astype(np.float64), []
for step in x.astype(np.float64):
    state = np.tanh(step + state @ recurrent.astype(np.float64))
    wanted.append(state)
for steps, right in ((STEPS, True), ("time", False)):
    model = elman(steps)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.allclose(session.run(None, {"start": start, "X": x})[0], wanted, atol=1e-5)
    off = np.abs(compiled(model) - wanted).max(axis=(1, 2))
    print(f"iree {version('iree-base-compiler')}, time axis {steps}: the steps are off by {off.round(2).tolist()}")
    assert (off.max() < 1e-5) == right and (right or off[0] > 0.1), off
print("Fix the size of the axis of time for IREE, or check its numbers: with a named axis a Scan is wrong.")
PY
