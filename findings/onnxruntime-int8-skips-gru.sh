#!/usr/bin/env bash
# onnxruntime 1.32.0: quantize_dynamic leaves GRU, RNN and the products in a Scan's body in float32 and says nothing.
# Of the recurrent operators only LSTM is replaced. The file written for the others is no smaller, the answer bit for bit the same.
# For a Scan there is an option, EnableSubgraph, off by default; for GRU and RNN there is none.
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


import logging, os, sys
from onnxruntime.quantization import quantize_dynamic


class Heard(logging.Handler):
    words: list[str] = []

    def emit(self, record):
        self.words.append(record.getMessage())


logging.getLogger().addHandler(Heard())


def scan():
    """An Elman network as a Scan: its recurrent product is a MatMul in the body."""
    square = numpy_helper.from_array((np.random.default_rng(0).normal(size=(INPUT, INPUT)) / 4).astype(np.float32), "R")
    state = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [BATCH, INPUT]) for n in ("before", "step", "after", "out")]
    nodes = [
        helper.make_node("MatMul", ["before", "R"], ["product"]),
        helper.make_node("Add", ["product", "step"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["after"]),
        helper.make_node("Identity", ["after"], ["out"]),
    ]
    body = helper.make_graph(nodes, "body", state[:2], state[2:], [square])
    start = numpy_helper.from_array(np.zeros((BATCH, INPUT), np.float32), "start")
    node = helper.make_node("Scan", ["start", "X"], ["last", "Y"], body=body, num_scan_inputs=1)
    outer = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [STEPS, BATCH, INPUT]) for n in ("X", "Y")]
    graph = helper.make_graph([node], "scan", outer[:1], outer[1:], [start])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


found = {}
for name, model in {"LSTM": layer("LSTM"), "GRU": layer("GRU"), "RNN": layer("RNN"), "Scan": scan()}.items():
    onnx.save(model, "float.onnx")
    quantize_dynamic("float.onnx", "int8.onnx")
    written = onnx.load("int8.onnx")
    same = bool((run(model, X=x) == run(written, X=x)).all())
    smaller = os.path.getsize("int8.onnx") < os.path.getsize("float.onnx")
    found[name] = ([node.op_type for node in written.graph.node], same, smaller)
about = [words for words in Heard.words if any(name in words for name in ("GRU", "RNN", "Scan"))]
print(f"onnxruntime {ort.__version__}: operator, same answer as float32, smaller file:", found)
assert found == {
    "LSTM": (["DynamicQuantizeLSTM"], False, True),
    "GRU": (["GRU"], True, False),
    "RNN": (["RNN"], True, False),
    "Scan": (["Scan"], True, False),
}, found
assert not about, about
print("GRU, RNN and Scan came back in float32, and no message names them.")
PY
