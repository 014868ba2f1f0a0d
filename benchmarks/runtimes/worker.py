"""Runs inside a runtime's own environment, with Python 3.8 or newer and NumPy alone: graphs in, logits out.

A line of JSON on standard input names a graph and a batch; a line on standard output has the logits, or why there are
none. The first line out is the runtime's version. What libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[[Any, Any], Any]
    """tokens [batch, time, columns] and lengths [batch] → logits."""


def onnxruntime(graph: str) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda tokens, lengths: session.run(None, {"tokens": tokens, "lengths": lengths})[0]


def openvino(graph: str) -> Run:
    import openvino as ov

    core = ov.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1", "ENABLE_CPU_PINNING": "NO"}
    model = core.compile_model(core.read_model(graph), "CPU", settings)
    return lambda tokens, lengths: model({"tokens": tokens, "lengths": lengths})[0].copy()


def tract(graph: str) -> Run:
    import tract as runtime

    model = runtime.onnx().load(graph).into_model().into_runnable()
    return lambda tokens, lengths: model.run([tokens, lengths])[0].to_numpy()


def onnx(graph: str) -> Run:
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(graph)

    def run(tokens: Any, lengths: Any) -> Any:
        with np.errstate(all="ignore"):
            return evaluator.run(None, {"tokens": tokens, "lengths": lengths})[0]

    return run


LOADERS: dict[str, Callable[[str], Run]] = {each.__name__: each for each in (onnxruntime, openvino, tract, onnx)}


def version(name: str) -> str:
    from importlib.metadata import version as installed

    return installed(name)


def answer(run: Run, batch: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The logits of a batch, and with `seconds` the milliseconds of CPU of the cheapest of as many runs as fit, at
    least 3."""
    tokens = np.array(batch["tokens"], np.int32).reshape(batch["shape"])
    lengths = np.array(batch["lengths"], np.int32)
    logits = np.asarray(run(tokens, lengths), np.float32)
    found: dict[str, Any] = {"shape": list(logits.shape), "logits": [float(each) for each in logits.ravel()]}
    if seconds:
        times: list[float] = []
        ends = time.perf_counter() + seconds
        while len(times) < 3 or time.perf_counter() < ends:
            started = time.process_time()  # of all threads; unlike the clock it does not count other programs
            run(tokens, lengths)
            times.append(time.process_time() - started)
        found["milliseconds"] = 1000 * min(times)
    return found


def main() -> None:
    name = sys.argv[1]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    loaded: tuple[str, Run] = ("", lambda *_: None)

    def say(value: dict[str, Any]) -> None:
        out.write(json.dumps(value) + "\n")
        out.flush()

    say({"version": version(name)})
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if loaded[0] != asked["graph"]:
                loaded = asked["graph"], LOADERS[name](asked["graph"])
            say(answer(loaded[1], asked["batch"], asked["seconds"]))
        except Exception as error:  # each runtime has exceptions of its own
            say({"refused": str(error) or type(error).__name__})


if __name__ == "__main__":
    main()
