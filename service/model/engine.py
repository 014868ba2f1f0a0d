"""One bundle in ONNX Runtime: a batch of rows in, logits out, or logits and every gate.

There are two sessions, because ONNX Runtime runs every node of a graph for any output: the fused graph gives
predictions, the trace graph gates. A cell without a fused operator has one graph and one session for both. All graphs
take ``tokens`` int32 [batch, time, features] and ``lengths`` int32 [batch].
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.errors import BundleError
from service.model import self_check
from service.model.bundle import MODEL_GRAPH, TRACE_GRAPH, WEIGHTS, Bundle, Manifest
from service.model.equations import Direction, gate_names, tensor_key
from service.model.network import Network
from service.model.untrusted import weights
from service.model.untrusted.memory_limit import patience
from service.model.untrusted.weights import Arrays, Vetted
from service.model.weights_layout import HEAD_BIAS, HEAD_QUERY, HEAD_WEIGHT, layer_name, table_name

Provider = Literal["cpu", "cuda"]
GateKey = tuple[int, Direction, str]
"""(layer, direction, gate name)."""

_PROVIDERS: dict[Provider, list[str | tuple[str, dict[str, str]]]] = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"],
}
_NAMES: dict[str, Provider] = {"CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "cuda"}
RECURRENT = frozenset({"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM", "Scan"})
"""Operators that make a layer; nearly all of a prediction's arithmetic is theirs."""
WARM_UP_SECONDS = 20.0
"""Seconds. A graph whose warm-up takes longer is stopped and refused."""
_WARM_UP = ((1, 8), (4, 16))
"""(rows, tokens) of the batches that a fresh engine runs before it serves: one text and a batch. Batches of 256 tokens
give the same seconds a token, and would take a sixth of a model's loading."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The output of the trace graph for one batch.

    `logits` are float32 [batch, labels], or [batch, time, labels] for a tagger. `emitted` are float32 [time,
    directions, batch, units] by (layer, gate), in the order in which each direction read: `gates` reverses the backward
    direction's rows. Values past an input's length are undefined.
    """

    logits: NDArray[np.float32]
    lengths: NDArray[np.int32]
    directions: tuple[Direction, ...]
    emitted: Mapping[tuple[int, str], NDArray[np.float32]]

    def gate(self, key: GateKey, row: int) -> NDArray[np.float32]:
        """One input's activations of one gate, a view [tokens, units] in which row t belongs to token t."""
        layer, direction, name = key
        read = self.emitted[layer, name][: self.lengths[row], self.directions.index(direction), row]
        return read[::-1] if direction == "backward" else read

    def gates(self, row: int) -> dict[GateKey, NDArray[np.float32]]:
        """Every gate of one input, in the order of layers, directions and gates."""
        names = dict.fromkeys(name for _, name in self.emitted)
        layers = dict.fromkeys(layer for layer, _ in self.emitted)
        return {key: self.gate(key, row) for key in product(layers, self.directions, names)}


@dataclass(frozen=True, slots=True)
class Placement:
    """How many nodes of the prediction graph each provider really runs, as the session assigned them.

    ONNX Runtime gives a node that a provider cannot run to the CPU, without a word.
    """

    recurrent: Mapping[Provider, int]
    other: Mapping[Provider, int]

    @property
    def provider(self) -> Provider:
        """Provider of the recurrent layers: CUDA if all of them run there."""
        return "cuda" if set(self.recurrent) == {"cuda"} else "cpu"


def placement(session: ort.InferenceSession) -> Placement:
    """The provider of each node of a session. Raises `BundleError` for a graph without a recurrent node, and for an
    unexpected provider."""
    recurrent: Counter[Provider] = Counter()
    other: Counter[Provider] = Counter()
    for part in session.get_provider_graph_assignment_info():
        provider = _NAMES.get(part.ep_name)
        if provider is None:
            raise BundleError(
                f"ONNX Runtime gave nodes to {part.ep_name}, which was not asked for and may read operators "
                f"differently: this service runs on {' and '.join(_NAMES)}. Install the package onnxruntime or "
                f"onnxruntime-gpu, and remove packages that register other providers"
            )
        for node in part.get_nodes():
            (recurrent if node.op_type in RECURRENT else other)[provider] += 1
    if not recurrent:
        raise BundleError(f"{MODEL_GRAPH} has no recurrent operator ({', '.join(sorted(RECURRENT))})")
    return Placement(dict(recurrent), dict(other))


def available_providers() -> list[str]:
    """ONNX Runtime's names for the execution providers of the installed wheel."""
    return list(ort.get_available_providers())


class Engine:
    """Runs one bundle's graphs. Safe to call from several threads at once.

    Raises `BundleError` when a graph cannot be loaded or does not fit the manifest.
    """

    def __init__(self, bundle: Bundle, *, provider: Provider = "cpu", threads: int = 1) -> None:
        vetted = weights.check(bundle)
        manifest = bundle.manifest
        self._patience: ort.RunOptions | None = None
        self._manifest = manifest
        self._keys = [(layer, gate) for layer in range(manifest.layers) for gate in gate_names(manifest.cell)]
        self._lent: list[ort.OrtValue] = []
        """The weights. Sessions use them in place, so that they must live as long as the sessions."""
        gates = [tensor_key(*key) for key in self._keys]
        # Scans always run on the CPU: step by step, a GPU would wait for each small kernel.
        if manifest.gates_graph == MODEL_GRAPH:
            self._model = self._trace = self._session(MODEL_GRAPH, vetted, "cpu", threads)
        else:
            self._model = self._session(MODEL_GRAPH, vetted, provider, threads)
            self._trace = self._session(TRACE_GRAPH, vetted, "cpu", threads)
            _expect_outputs(self._model, MODEL_GRAPH, ["logits"])
        _expect_outputs(self._trace, manifest.gates_graph, ["logits", *gates])
        self.placement = placement(self._model)
        self.relies_on = self_check.relies_on(self._model.get_modelmeta().custom_metadata_map)
        """The parts of ONNX that a runtime must read as ONNX defines them, for ``model.onnx`` to be right."""
        self.provider: Provider = self.placement.provider
        self.head_weight, self.head_bias, self.head_query = _head(vetted.weights, manifest)
        self.network = Network(manifest, vetted.weights)
        """The same weights, for runs outside of the graphs."""

    def _session(self, name: str, vetted: Vetted, provider: Provider, threads: int) -> ort.InferenceSession:
        """A graph, ready to run, that reads no file: its weights are those that were vetted."""
        options = _options(provider, threads)
        values = {each: ort.OrtValue.ortvalue_from_numpy(array) for each, array in vetted.initializers[name].items()}
        options.add_external_initializers(list(values), list(values.values()))
        if provider == "cpu":
            # with these a session makes no copy of the weights that it uses unchanged
            for each, value in values.items():
                options.add_initializer(each, value)
            self._lent += values.values()
        try:
            return ort.InferenceSession(vetted.graphs[name], options, providers=_PROVIDERS[provider])
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            raise BundleError(f"{name} cannot be loaded: {_first_line(error)}") from error

    def predict(self, rows: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Logits of a batch of inputs, each int32 [tokens, features]: [batch, labels], or [batch, time, labels]."""
        logits: NDArray[np.float32] = self._model.run(["logits"], _feed(rows), self._patience)[0]
        return logits

    def trace(self, rows: Sequence[NDArray[np.int32]]) -> Trace:
        """Logits and every gate of a batch of inputs."""
        feed = _feed(rows)
        logits, *gates = self._trace.run(None, feed, self._patience)
        directions = self._manifest.directions
        time, shape = len(gates[0]), (len(directions), len(rows), gates[0].shape[-1])
        emitted = {key: array.reshape(time, *shape) for key, array in zip(self._keys, gates, strict=True)}
        return Trace(logits, feed["lengths"], directions, emitted)

    def warm_up(self) -> float:
        """Run both graphs on a few shapes. Returns the seconds that a padded token of a prediction took, at best.

        Raises `BundleError` when a graph fails, answers in another shape than the manifest promises, or is not read as
        it was when it was certified.
        """
        with patience(WARM_UP_SECONDS) as self._patience:
            best = min(self._warm_up(rows, tokens) for rows, tokens in _WARM_UP)
            self_check.check(self.predict, lambda rows: self.trace(rows).logits, self._manifest, ort.__version__)
        self._patience = None
        return best

    def _warm_up(self, rows: int, tokens: int) -> float:
        """The same, for one shape."""
        features, labels = self._manifest.features, len(self._manifest.labels)
        batch = [np.zeros((tokens, sum(feature.columns for feature in features)), np.int32)] * rows
        expected = (rows, tokens, labels) if self._manifest.head == "tagger" else (rows, labels)
        try:
            started = time.perf_counter()
            logits = self.predict(batch)
            seconds = time.perf_counter() - started
            traced = self.trace(batch).logits
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            raise BundleError(f"the graphs do not run: {_first_line(error)}") from error
        if logits.shape != expected or traced.shape != expected:
            raise BundleError(f"logits have shapes {logits.shape} and {traced.shape}, expected {expected}")
        if not (np.isfinite(logits).all() and np.isfinite(traced).all()):
            raise BundleError("the graphs answer with numbers that are not finite")
        return seconds / (rows * tokens)


def pad(rows: Sequence[NDArray[np.int32]]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Rows [tokens, features] of different lengths as one array [batch, longest, features], padded with 0, and their
    lengths [batch]."""
    return padded(rows), np.array([len(row) for row in rows], np.int32)


def padded(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Arrays [tokens, …] as one [inputs, longest, …], padded with 0."""
    longest = max(map(len, arrays))
    together = np.zeros((len(arrays), longest, *arrays[0].shape[1:]), arrays[0].dtype)
    for number, rows in enumerate(arrays):
        together[number, : len(rows)] = rows
    return together


def _feed(rows: Sequence[NDArray[np.int32]]) -> dict[str, NDArray[np.int32]]:
    if not rows:
        raise ValueError("a batch needs at least one row")
    return dict(zip(("tokens", "lengths"), pad(rows), strict=True))


@cache
def _find_cuda() -> None:
    """Load CUDA and cuDNN from the packages of the extra `cuda`, if the system has none of its own."""
    ort.preload_dlls()


@cache
def _share_memory() -> None:
    """One memory arena for all sessions of this process, because an arena never shrinks: with one for each session,
    long requests to eight models take 940 MB instead of 230, and no less time."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(0, -1, -1, -1))  # ONNX Runtime's own defaults


def _options(provider: Provider, threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # It would keep a memory plan for each shape for good: useful only if one shape comes again and again.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if provider == "cuda":
        _find_cuda()
    else:
        _share_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
    return options


def _expect_outputs(session: ort.InferenceSession, name: str, expected: list[str]) -> None:
    inputs = [node.name for node in session.get_inputs()]
    outputs = [node.name for node in session.get_outputs()]
    if inputs != ["tokens", "lengths"] or outputs != expected:
        raise BundleError(
            f"{name} takes {', '.join(inputs)} and gives {', '.join(outputs)}; "
            f"by the manifest it takes tokens, lengths and gives {', '.join(expected)}"
        )


def _expect_tensors(weights: Arrays, manifest: Manifest) -> None:
    """Raises `BundleError` for the weights of another cell or head: the graphs of some look the same from outside."""
    expected = dict.fromkeys((HEAD_WEIGHT, HEAD_BIAS, *(table_name(each.name) for each in manifest.features)), True)
    expected[HEAD_QUERY] = manifest.head == "attention"
    expected |= {f"{layer_name(number)}.P": manifest.cell == "peephole" for number in range(manifest.layers)}
    for name, wanted in expected.items():
        if (name in weights) != wanted:
            has, right = ("no", "one") if wanted else ("a", "none")
            said = f"by the manifest (cell {manifest.cell}, head {manifest.head}) it has {right}"
            raise BundleError(f"{WEIGHTS} has {has} tensor {name}, {said}")


def _head(
    weights: Arrays, manifest: Manifest
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]:
    """The head's weight [labels, units of all directions], bias [labels] and, of an attention head, query [units of all
    directions], when the weights fit the manifest's cell and head."""
    _expect_tensors(weights, manifest)
    weight, bias = (np.array(weights[name], np.float32) for name in (HEAD_WEIGHT, HEAD_BIAS))
    query = np.array(weights[HEAD_QUERY], np.float32) if manifest.head == "attention" else None
    for feature in manifest.features:
        rows = len(np.atleast_1d(weights[table_name(feature.name)]))
        if rows != feature.size:
            raise BundleError(f"{WEIGHTS} has {rows} rows for {feature.name}, not {feature.size}")
    expected = (len(manifest.labels), manifest.hidden * len(manifest.directions))
    if weight.shape != expected or bias.shape != expected[:1]:
        raise BundleError(f"{WEIGHTS} has a head of shape {weight.shape}, by the manifest it is {expected}")
    if query is not None and query.shape != expected[1:]:
        raise BundleError(f"{WEIGHTS} has a query of shape {query.shape}, by the manifest it is {expected[1:]}")
    return weight, bias, query


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
