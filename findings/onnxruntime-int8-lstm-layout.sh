#!/usr/bin/env bash
# onnxruntime 1.32.0: quantize_dynamic drops layout=1 of an LSTM, so the int8 file takes the batch for time.
# layout=1 says that batch comes before time. onnxruntime refuses such an LSTM in float32, and names the reason. Its own
# quantiser makes of the same file one that loads and runs, and reads the first text as the first step, and so on.
# The answer is that of layout 0 for the same array. No error; onnxruntime logs that shapes of outputs differ from the file's.
# Its tracker has an error over this attribute (number 15465, closed); since then the attribute is left out.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 sympy==1.14.0
venv/bin/python -W ignore - <<'PY'
import logging
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

HIDDEN, INPUT, STEPS, BATCH = 8, 8, 6, 3
logging.disable(logging.CRITICAL)
ort.set_default_logger_severity(4)


def layer(batch_first, rows, steps):
    """An LSTM with random weights that gives its last state: [batch, 1, HIDDEN] if batch_first, else [1, batch, HIDDEN]."""
    random = np.random.default_rng(0)
    shapes = {"W": (1, 4 * HIDDEN, INPUT), "R": (1, 4 * HIDDEN, HIDDEN), "B": (1, 8 * HIDDEN)}
    weights = [numpy_helper.from_array((random.normal(size=s) / 4).astype(np.float32), n) for n, s in shapes.items()]
    layout = {"layout": 1} if batch_first else {}
    node = helper.make_node("LSTM", ["X", *shapes], ["", "Y_h"], hidden_size=HIDDEN, **layout)
    shape = ([rows, steps, INPUT], [rows, 1, HIDDEN]) if batch_first else ([steps, rows, INPUT], [1, rows, HIDDEN])
    ends = [helper.make_tensor_value_info(*one) for one in zip(("X", "Y_h"), [TensorProto.FLOAT] * 2, shape, strict=True)]
    graph = helper.make_graph([node], "layer", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model, x):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"X": x})[0]


def int8(model):
    onnx.save(model, "float32.onnx")
    quantize_dynamic("float32.onnx", "int8.onnx")
    return onnx.load("int8.onnx")


x = np.random.default_rng(1).normal(size=(BATCH, STEPS, INPUT)).astype(np.float32)
wanted = run(layer(False, BATCH, STEPS), x.transpose(1, 0, 2)).reshape(BATCH, HIDDEN)
quantised = run(int8(layer(False, BATCH, STEPS)), x.transpose(1, 0, 2)).reshape(BATCH, HIDDEN)
noise = float(np.abs(quantised - wanted).max())
print(f"onnxruntime {ort.__version__}, layout 0, int8: {BATCH} last states, off by {noise:.3f}")
assert noise < 0.05, noise
batch_first = layer(True, BATCH, STEPS)
try:
    run(batch_first, x)
except Exception as error:
    assert "layout == 1" in str(error), error
    print("layout 1, float32: refused")
else:
    raise AssertionError("layout=1 is taken now")
answer = run(int8(batch_first), x)
swapped = run(layer(False, STEPS, BATCH), x)
near = float(np.abs(answer - swapped).max())
print(f"layout 1, int8: {list(answer.shape)} for a file that says [{BATCH}, 1, {HIDDEN}]; within {near:.3f} of layout 0")
assert answer.shape == (1, STEPS, HIDDEN) and near < 0.05, (answer.shape, near)
square = np.random.default_rng(2).normal(size=(STEPS, STEPS, INPUT)).astype(np.float32)
wanted = run(layer(False, STEPS, STEPS), square.transpose(1, 0, 2)).reshape(STEPS, HIDDEN)
off = float(np.abs(run(int8(layer(True, STEPS, STEPS)), square).reshape(STEPS, HIDDEN) - wanted).max())
print(f"layout 1, int8, as many texts as steps: off by {off:.2f}")
assert off > 0.1, off
print("Put a Transpose around an LSTM of layout 0 before it is quantised.")
PY
