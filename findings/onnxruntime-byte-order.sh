#!/usr/bin/env bash
# onnxruntime 1.32.0 reads arrays of big-endian floats (dtype ">f4") as if they were little-endian. No error, no warning.
# NumPy gives such arrays for data from a network or from files of other machines; their values compare equal to the plain ones.
# An LSTM gets other numbers, many of them tiny or huge. InferenceSession.run, OrtValue and IO binding are the same.
# A length of 3 in dtype ">i4" is read as 50331648: for GRU and LSTM that at least is refused.
# onnx 1.23.2 and tritonclient 2.73.0 refuse these arrays; safetensors 0.8.0 turns them around first.
# The tracker of onnxruntime has the same trap of its Java interface (number 26408, open), none for Python.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet onnxruntime==1.32.0 onnx==1.23.2 safetensors==0.8.0 tritonclient==2.73.0 numpy==2.4.6
venv/bin/python - <<'PY'
import warnings
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load, save
from tritonclient.utils import np_to_triton_dtype

warnings.simplefilter("error")
HIDDEN, STEPS, BATCH = 8, 6, 3


def session():
    """One LSTM layer with random weights: X (STEPS, BATCH, HIDDEN) and lengths in, Y out."""
    random = np.random.default_rng(0)
    shapes = {"W": (1, 4 * HIDDEN, HIDDEN), "R": (1, 4 * HIDDEN, HIDDEN), "B": (1, 8 * HIDDEN)}
    weights = [numpy_helper.from_array((random.normal(size=s) / 2).astype(np.float32), n) for n, s in shapes.items()]
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, [STEPS, BATCH, HIDDEN])]
    inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, [BATCH]))
    output = helper.make_tensor_value_info("Y", TensorProto.FLOAT, [STEPS, 1, BATCH, HIDDEN])
    node = helper.make_node("LSTM", ["X", *shapes, "lengths"], ["Y"], hidden_size=HIDDEN)
    graph = helper.make_graph([node], "layer", inputs, [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


layer = session()
plain = np.random.default_rng(1).normal(size=(STEPS, BATCH, HIDDEN)).astype(np.float32)
turned, lengths = plain.astype(">f4"), np.array([6, 3, 1], np.int32)
assert np.array_equal(turned, plain)
wanted = layer.run(None, {"X": plain, "lengths": lengths})[0]
swapped = layer.run(None, {"X": plain.byteswap(), "lengths": lengths})[0]
binding = layer.io_binding()
binding.bind_cpu_input("X", turned)
binding.bind_cpu_input("lengths", lengths)
binding.bind_output("Y")
layer.run_with_iobinding(binding)
ways = {
    "run": layer.run(None, {"X": turned, "lengths": lengths})[0],
    "OrtValue": layer.run(None, {"X": ort.OrtValue.ortvalue_from_numpy(turned), "lengths": lengths})[0],
    "IO binding": binding.copy_outputs_to_cpu()[0],
}
for name, found in ways.items():
    off, same = float(np.abs(found - wanted).max()), np.array_equal(found, swapped, equal_nan=True)
    print(f"onnxruntime {ort.__version__}, {name}: off by {off:.2f}; equal to the array with its bytes swapped: {same}")
    assert same and not off < 0.1, (name, off, same)
try:
    layer.run(None, {"X": plain, "lengths": lengths.astype(">i4")})
except Exception as error:
    assert "Invalid value/s in sequence_lens" in str(error), error
    print("Lengths of dtype >i4 are refused: Invalid value/s in sequence_lens")
else:
    raise AssertionError("lengths of dtype >i4 are taken")
try:
    numpy_helper.from_array(turned, "x")
except (TypeError, ValueError) as error:
    print("onnx refuses:", error)
else:
    raise AssertionError("onnx takes it")
assert np_to_triton_dtype(turned.dtype) is None
assert np.array_equal(load(save({"x": turned}))["x"], plain)
print("tritonclient knows no datatype for it, and safetensors saves its values.")
PY
