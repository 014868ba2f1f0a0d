"""One step of an LSTM as a graph of ONNX: the way in which streams would run if their step were not NumPy's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.model.network import Network
from service.model.streams.pooling import pool
from service.model.streams.stepping import StepJob, Stepper
from service.model.weights_layout import HEAD_BIAS, HEAD_QUERY, HEAD_WEIGHT, layer_name

OPSET = 17
IR_VERSION = 9
Run = Callable[[Sequence[StepJob]], tuple[list[list[float]], list[bytes]]]
"""Jobs to the logits after them, and their states."""


def fits(network: Network) -> bool:
    """True for a network that `run` can step."""
    manifest = network.manifest
    one_layer = (manifest.cell, manifest.layers, manifest.window_words) == ("lstm", 1, 1)
    return one_layer and manifest.reads_forward and manifest.precision == "float32"


def run(network: Network) -> Run:
    """A function like `Stepper.run`, for jobs of one token each and a model of one LSTM layer that reads forward.

    The graph has the layer alone, as one fused operator, so there are no gates. Known words are kept as vectors, the
    states come and go as bytes, and the head is the service's own, as in the service.
    """
    manifest, arrays, units = network.manifest, network.arrays, network.manifest.hidden
    session = ort.InferenceSession(_graph(network), _options(), providers=["CPUExecutionProvider"])
    query = np.asarray(arrays[HEAD_QUERY], np.float32) if HEAD_QUERY in arrays else None
    weight, bias = (np.asarray(arrays[name], np.float32) for name in (HEAD_WEIGHT, HEAD_BIAS))
    head = pool(manifest.head, weight, bias, query)
    pooled, size = len(head.start), len(Stepper(network).start)
    kept: dict[bytes, NDArray[np.float32]] = {}

    def stepped(jobs: Sequence[StepJob]) -> tuple[list[list[float]], list[bytes]]:
        count = len(jobs)
        for job in jobs:
            if job.rows[0] not in kept:
                kept[job.rows[0]] = network.embed(np.frombuffer(job.rows[0], np.int32)[None])[0]
        numbers = np.frombuffer(bytearray().join([job.state for job in jobs])).reshape(count, -1)
        statistics, cells = numbers[:, :pooled], numbers[:, pooled:].view(np.float32)
        h, c = cells[:, :units], cells[:, units : 2 * units]  # [streams, units]
        x = np.array([kept[job.rows[0]] for job in jobs])  # [streams, numbers]
        h[...], c[...] = session.run(None, {"x": x[None], "h": h[None], "c": c[None]})
        logits = head.add(h, statistics)
        content = numbers.tobytes()
        return logits, [content[at : at + size] for at in range(0, len(content), size)]

    return stepped


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return options


def _graph(network: Network) -> bytes:
    """x [1, streams, numbers], h and c [1, streams, units] → the next h and c."""
    name, units = layer_name(0), network.manifest.hidden
    shapes = {"x": network.numbers, "h": units, "c": units}
    inputs = [helper.make_tensor_value_info(key, TensorProto.FLOAT, [1, None, size]) for key, size in shapes.items()]
    outputs = [helper.make_tensor_value_info(key, TensorProto.FLOAT, [1, None, units]) for key in ("hidden", "cell")]
    constants = [
        numpy_helper.from_array(np.asarray(network.arrays[f"{name}.{part}"], np.float32), part) for part in "WRB"
    ]
    node = helper.make_node("LSTM", ["x", "W", "R", "B", "", "h", "c"], ["", "hidden", "cell"], hidden_size=units)
    made = helper.make_model(
        helper.make_graph([node], "step", inputs, outputs, constants), opset_imports=[helper.make_opsetid("", OPSET)]
    )
    made.ir_version = IR_VERSION
    content: bytes = made.SerializeToString()
    return content
