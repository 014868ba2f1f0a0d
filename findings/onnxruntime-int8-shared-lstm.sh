#!/usr/bin/env bash
# onnxruntime 1.32.0: quantize_dynamic breaks LSTMs that share their weights, as the two towers of a Siamese network do.
# Each LSTM it meets has its quantised weights transposed in place. The second one with the same weights transposes them once
# more: both, and any further one, then run with numbers in the wrong places. The last states are off by as much as if the
# weights were another network's, the file has the same shapes, passes the checker and runs; no error, no warning.
# One LSTM alone, or two with copies of the same weights under different names, are off by the noise of int8 only.
# With per_channel=True the file that quantize_dynamic writes is refused at its first run. Not known to its tracker, as far as seen.
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

HIDDEN, INPUT, STEPS, BATCH = 16, 12, 10, 3
logging.disable(logging.CRITICAL)
ort.set_default_logger_severity(4)
random = np.random.default_rng(0)
SHAPES = {"W": (1, 4 * HIDDEN, INPUT), "R": (1, 4 * HIDDEN, HIDDEN), "B": (1, 8 * HIDDEN)}
WEIGHTS = {name: (random.normal(size=shape) / 4).astype(np.float32) for name, shape in SHAPES.items()}
TEXTS = [random.normal(size=(STEPS, BATCH, INPUT)).astype(np.float32) for _ in range(3)]


def towers(count, shared):
    """One LSTM a text, each with its last state as output, all with the same weights: by one name, or as copies."""
    nodes, inputs, outputs, weights = [], [], [], []
    for place in range(count):
        names = [name if shared else f"{name}{place}" for name in SHAPES]
        nodes.append(helper.make_node("LSTM", [f"X{place}", *names], ["", f"Y_h{place}"], hidden_size=HIDDEN))
        inputs.append(helper.make_tensor_value_info(f"X{place}", TensorProto.FLOAT, [STEPS, BATCH, INPUT]))
        outputs.append(helper.make_tensor_value_info(f"Y_h{place}", TensorProto.FLOAT, [1, BATCH, HIDDEN]))
        if place == 0 or not shared:
            weights += [numpy_helper.from_array(WEIGHTS[name[0]], name) for name in names]
    graph = helper.make_graph(nodes, "towers", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [state[0] for state in session.run(None, {one.name: TEXTS[int(one.name[1:])] for one in session.get_inputs()})]


def int8(model, **options):
    onnx.save(model, "float32.onnx")
    quantize_dynamic("float32.onnx", "int8.onnx", **options)
    done = onnx.load("int8.onnx")
    assert {node.op_type for node in done.graph.node} == {"DynamicQuantizeLSTM"}, done.graph.node
    return done


def last_state(x):
    """The last state of an LSTM by the equations of ONNX, in float64."""
    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    w, r, b = (WEIGHTS[name][0].astype(np.float64) for name in SHAPES)
    h = c = np.zeros((BATCH, HIDDEN))
    for step in x.astype(np.float64):
        i, o, f, candidate = np.split(step @ w.T + h @ r.T + b[: 4 * HIDDEN] + b[4 * HIDDEN :], 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
        h = sigmoid(o) * np.tanh(c)
    return h


def off(states):
    return [float(np.abs(state - last_state(x)).max()) for state, x in zip(states, TEXTS, strict=False)]


def shown(numbers):
    return ", ".join(f"{number:.2g}" for number in numbers)


for count in (1, 2, 3):
    plain = off(run(towers(count, shared=True)))
    copies, shared = (off(run(int8(towers(count, shared)))) for shared in (False, True))
    print(f"onnxruntime {ort.__version__}, {count} LSTM: float32 off by {shown(plain)}; int8, copied weights: {shown(copies)}; int8, shared weights: {shown(shared)}")
    assert max(plain) < 1e-5 and max(copies) < 0.05, (plain, copies)
    assert max(shared) < 0.05 if count == 1 else min(shared) > 0.2, shared

# What the file holds: the numbers of the right weights, transposed twice.
kept = {one.name: numpy_helper.to_array(one)[0] for one in int8(towers(2, shared=True)).graph.initializer if "quantized" in one.name}
right = {one.name: numpy_helper.to_array(one)[0] for one in int8(towers(1, shared=True)).graph.initializer if "quantized" in one.name}
for name, found in kept.items():
    assert found.shape == right[name].shape and not (found == right[name]).all(), name
    assert (found == right[name].reshape(found.shape[::-1]).T).all(), name
print("Both weights in the file are the right ones, cut into rows of the wrong length and transposed again.")

try:
    run(int8(towers(2, shared=True), per_channel=True))
except Exception as error:
    assert "_quantized" in str(error), error
    print("per_channel=True, two LSTMs: the file is refused")
else:
    raise AssertionError("per_channel=True runs now")
print("Give each LSTM a copy of the weights under a name of its own before quantising.")
PY
