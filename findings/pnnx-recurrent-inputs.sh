#!/usr/bin/env bash
# pnnx 20261020 reads sequence_lens of an ONNX LSTM, GRU or RNN as a state, and reports success: of a GRU and an RNN as
# initial_h; of an LSTM as initial_c, with the bias B as initial_h and no bias. A GRU with linear_before_reset=0, ONNX's
# default, is computed by ncnn 1.0.20261020 as with 1; input_forget of LSTM and clip of LSTM and GRU are dropped.
# LSTM, RNN, and GRU with linear_before_reset=1, agree with onnxruntime 1.32.0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet ncnn==1.0.20261020 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
# pnnx requires torch; its program needs none.
PIP_NO_DEPS=1 venv/bin/pip install --quiet pnnx==20261020
venv/bin/python -W ignore - <<'PY'
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import ncnn
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

PNNX = str(Path(find_spec("pnnx").origin).with_name("pnnx"))
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
HIDDEN, INPUT, STEPS = 4, 3, 5
x = np.random.default_rng(1).normal(size=(STEPS, 1, INPUT)).astype(np.float32)


def convert(operator, lengths=False, **attributes):
    """Write one layer with random weights, for one text, and convert it: pnnx's description of the layer."""
    random, rows = np.random.default_rng(0), GATES[operator] * HIDDEN
    shapes = {"W": (1, rows, INPUT), "R": (1, rows, HIDDEN), "B": (1, 2 * rows)}
    weights = [numpy_helper.from_array(random.normal(size=s).astype(np.float32), n) for n, s in shapes.items()]
    weights.append(numpy_helper.from_array(np.array([1]), "axis"))
    names = ["X", "W", "R", "B"] + (["lengths"] if lengths else [])
    nodes = [
        helper.make_node(operator, names, ["Y"], hidden_size=HIDDEN, **attributes),
        helper.make_node("Squeeze", ["Y", "axis"], ["out"]),
    ]
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, [STEPS, 1, INPUT])]
    if lengths:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, [1]))
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [STEPS, 1, HIDDEN])
    graph = helper.make_graph(nodes, "layer", inputs, [out], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "m.onnx")
    subprocess.run([PNNX, "m.onnx", "fp16=0"], capture_output=True, check=True)
    return next(line for line in Path("m.pnnx.param").read_text().splitlines() if line.startswith(f"nn.{operator}"))


def difference(operator, **attributes):
    """The largest difference of ncnn's answer from onnxruntime's."""
    convert(operator, **attributes)
    network = ncnn.Net()
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = False
    assert network.load_param("m.ncnn.param") == 0 and network.load_model("m.ncnn.bin") == 0
    axes = dict(re.findall(r"(\w+)\.numpy\(.*batch_index=(\d+)", Path("m_ncnn.py").read_text()))
    extractor = network.create_extractor()
    extractor.input("in0", ncnn.Mat(x, batch_index=int(axes["in0"])).clone())
    found = extractor.extract("out0")[1].numpy(batch_index=int(axes["out0"]))
    expected = onnxruntime.InferenceSession("m.onnx").run(None, {"X": x})[0]
    return float(np.abs(found.reshape(expected.shape) - expected).max())


for operator, attributes in (("LSTM", {}), ("RNN", {}), ("GRU", {"linear_before_reset": 1})):
    assert difference(operator, **attributes) < 1e-5
for operator, attributes in (
    ("GRU", {}),
    ("LSTM", {"input_forget": 1}),
    ("LSTM", {"clip": 0.1}),
    ("GRU", {"clip": 0.1, "linear_before_reset": 1}),
):
    off = difference(operator, **attributes)
    print(f"{operator} with {attributes or 'the default linear_before_reset=0'}: off by {off:.2g}, no error")
    assert off > 0.01
for operator, states in (
    ("GRU", {"initial_h": "lengths"}),
    ("RNN", {"initial_h": "lengths"}),
    ("LSTM", {"initial_h": "B", "initial_c": "lengths"}),
):
    said = convert(operator, lengths=True)
    # The lines of pnnx's file: a kind, a name, two counts, numbers of inputs and outputs, parameters.
    lines = [line.split() for line in Path("m.pnnx.param").read_text().splitlines()]
    names = {line[4]: line[1] for line in lines if line[0] == "pnnx.Attribute"} | {"0": "X", "1": "lengths"}
    read = {state: names[number] for state, number in re.findall(r"\$(initial_\w)=(\w+)", said)}
    print(f"{operator} with sequence_lens: {said.split()[0]} takes {read}, bias={'bias=True' in said}")
    assert read == states and "#1=(1)i32" in said  # 1 is the input of lengths
    assert ("bias=True" in said) == ("bias_ih_l0" in said) == (operator != "LSTM")
PY
