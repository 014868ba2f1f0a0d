"""Runs inside a runtime's own environment, with Python 3.8 or newer and NumPy alone: graphs in, logits out.

A line of JSON on standard input names a graph and a batch; a line on standard output has the logits, or why there are
none. The first line out is the runtime's version. The output of libraries goes to standard error.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
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


def mnn(graph: str) -> Run:
    """Converted to its own recurrent operators: the converter ends over the loops that are its default."""
    import MNN.expr as expr
    import MNN.nn as nn

    with tempfile.TemporaryDirectory() as folder:
        pip = Path(folder, "pip")  # the converter calls pip by itself, to install more packages
        pip.write_text("#!/bin/sh\nexit 1\n")
        pip.chmod(0o700)
        wanted = ["-f", "ONNX", "--modelFile", graph, "--MNNModel", "model.mnn", "--bizCode", "x", "--useOriginRNNImpl"]
        said = _program("mnnconvert", wanted, folder, PATH=f"{folder}{os.pathsep}{os.environ['PATH']}")
        file = Path(folder, "model.mnn")
        if not file.exists():
            reason = next((line for line in said if "Not Support" in line), said[-1])
            raise RuntimeError(f"mnnconvert: {reason[max(reason.find('These'), 0) :]}")
        manager = nn.create_runtime_manager(({"numThread": 1, "precision": "high"},))
        try:
            network = nn.load_module_from_file(str(file), ["tokens", "lengths"], ["logits"], runtime_manager=manager)
        except SystemError as error:
            raise RuntimeError(f"load_module_from_file: {error.__cause__ or error}") from error

    def run(tokens: Any, lengths: Any) -> Any:
        fed = [expr.const(each.copy(), list(each.shape), expr.NCHW, expr.int) for each in (tokens, lengths)]
        logits = expr.convert(network.forward(fed)[0], expr.NCHW)
        return np.array(logits.read(), np.float32).reshape(logits.shape)

    return run


def iree(graph: str) -> Run:
    import iree.runtime as runtime

    with tempfile.TemporaryDirectory() as folder:
        _program("iree-import-onnx", [graph, "-o", "model.mlir"], folder)
        target = ["--iree-hal-target-backends=llvm-cpu", "--iree-llvmcpu-target-cpu=host"]
        _program("iree-compile", ["model.mlir", *target, "-o", "model.vmfb"], folder)
        compiled = Path(folder, "model.vmfb").read_bytes()
    config = runtime.Config("local-sync")
    context = runtime.SystemContext(config=config)
    context.add_vm_module(runtime.VmModule.copy_buffer(config.vm_instance, compiled))
    module = context.modules.module
    name = next(each for each in module.vm_module.function_names if not each.startswith("__") and "$" not in each)

    def run(tokens: Any, lengths: Any) -> Any:
        found = module[name](tokens, lengths)
        return np.asarray((found[0] if isinstance(found, tuple) else found).to_host())  # logits come first

    return run


def tvm(graph: str) -> Run:
    import onnx
    import tvm as runtime
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    module = relax.transform.LegalizeOps()(from_onnx(onnx.load(graph)))
    machine = relax.VirtualMachine(runtime.compile(module, target="llvm"), runtime.cpu())
    return lambda tokens, lengths: machine["main"](
        runtime.runtime.tensor(tokens), runtime.runtime.tensor(lengths)
    ).numpy()


def ncnn(graph: str) -> Run:
    """Converted by pnnx, one text at a time: what pnnx writes is for the sizes that it was given."""
    import onnx

    tagger = len(onnx.load(graph).graph.output[0].type.tensor_type.shape.dim) == 3
    networks: dict[int, Run] = {}

    def run(tokens: Any, lengths: Any) -> Any:
        # Each text: [1, time, columns]
        texts = [np.array(row[:length][None]) for row, length in zip(tokens, lengths, strict=True)]
        rows = []
        for text in texts:
            if text.shape[1] not in networks:
                networks[text.shape[1]] = _ncnn(graph, *text.shape)
            logits = networks[text.shape[1]](text, np.array([text.shape[1]], np.int32))
            rows.append(logits.reshape((text.shape[1], -1) if tagger else -1))
        return _padded(rows, tokens.shape[1]) if tagger else np.stack(rows)

    return run


def _ncnn(graph: str, *shape: int) -> Run:
    """The network for tokens of one shape. Raises `RuntimeError` where ncnn does not have all of its layers."""
    from importlib.util import find_spec

    import ncnn as runtime
    import onnx

    model = onnx.load(graph)
    for value, sizes in zip(model.graph.input, (shape, shape[:1]), strict=False):
        for axis, size in zip(value.type.tensor_type.shape.dim, sizes, strict=True):
            axis.dim_value = size
    package = find_spec("pnnx")  # without an import, which would need torch
    assert package is not None
    assert package.origin is not None
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, str(Path(folder, "model.onnx")))
        # pnnx runs parts of the graph with int32 inputs that it leaves uninitialised. The C library fills new memory
        # with the complement of this byte, 0, which is an id of every model.
        program = str(Path(package.origin).with_name("pnnx"))
        _program(program, ["model.onnx", "fp16=0"], folder, MALLOC_PERTURB_="255")
        network, file = runtime.Net(), Path(folder, "model.ncnn.param")
        network.opt.num_threads = 1
        network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = False
        layers = {line.split()[0] for line in file.read_text().splitlines()[2:]}  # two lines of counts come first
        if missing := sorted(each for each in layers if runtime.layer_to_index(each) < 0):
            raise RuntimeError(f"pnnx writes layers that ncnn does not have: {', '.join(missing)}")
        if network.load_param(str(file)) or network.load_model(str(file.with_suffix(".bin"))):
            raise RuntimeError("load_param or load_model failed")
        # The program that pnnx writes beside it has the axis that each array takes for that of the batch.
        axes = dict(re.findall(r"(\w+)\.numpy\(.*batch_index=(\d+)", Path(folder, "model_ncnn.py").read_text()))

    def run(tokens: Any, lengths: Any) -> Any:
        extractor = network.create_extractor()
        for name, array in (("in0", tokens), ("in1", lengths)):
            extractor.input(name, runtime.Mat(array, batch_index=int(axes[name])).clone())
        status, logits = extractor.extract("out0")
        if status:
            raise RuntimeError(f"extract ended with {status}")
        return logits.numpy(batch_index=int(axes["out0"]))

    return run


def _padded(rows: list[Any], time: int) -> Any:
    """Rows of [time, labels] with lengths of their own → [batch, time, labels], 0 in the padding."""
    logits = np.zeros((len(rows), time, rows[0].shape[1]), np.float32)
    for place, row in zip(logits, rows, strict=True):
        place[: len(row)] = row
    return logits


def _program(name: str, arguments: list[str], folder: str, **environment: str) -> list[str]:
    """Run a program of this environment in `folder`: the lines that it said. Raises `RuntimeError` with its first
    error, or its last line."""
    done = subprocess.run(  # noqa: S603  # a runtime's own program, no shell
        [str(Path(sys.executable).parent / name), *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    said = [line.strip() for line in (done.stdout + done.stderr).decode(errors="replace").splitlines() if line.strip()]
    if done.returncode:
        told = next((line for line in said if "error:" in line), said[-1] if said else "it said nothing")
        raise RuntimeError(f"{name} ended with {done.returncode}: {told}")
    return said


LOADERS: dict[str, Callable[[str], Run]] = {
    each.__name__: each for each in (onnxruntime, openvino, tract, mnn, iree, tvm, ncnn, onnx)
}
DISTRIBUTIONS = {"iree": "iree-base-compiler", "tvm": "apache-tvm"}
"""Runtimes whose installed package has another name."""


def version(name: str) -> str:
    from importlib.metadata import version as installed

    return installed(DISTRIBUTIONS.get(name, name))


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
