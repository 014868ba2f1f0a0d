"""The rules for a bundle's weights and graphs, checked before ONNX Runtime sees them.

A bundle may come from anywhere. Its graphs run operators of a list, read numbers of the weights file beside them and of
nothing else, go from their inputs to their outputs without a circle, and are small (`service.model.untrusted.graph`);
its weights are finite. An allowed bundle can cost memory and time at most, and the engine bounds both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.errors import BundleError
from service.model import weights
from service.model.bundle import MODEL_GRAPH, WEIGHTS, Bundle
from service.model.untrusted.graph import External, Graph

MAX_WEIGHT: Final = 1e6
"""The largest weight, either way: up to it no sum of products leaves float32."""

_AT_ONCE = 1 << 16
"""Weights that are looked at together: they fit a core's cache."""
_HALF, _HALF_EXPONENT = 2, 0x7C00
"""Bytes of a float16, and the bits of its exponent."""

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Vetted:
    """The parts that ONNX Runtime may see: graphs by the names of their files. Arrays are views of the bundle's
    contents."""

    weights: Arrays
    """The arrays of the weights file, by name."""
    graphs: Mapping[str, bytes]
    initializers: Mapping[str, Arrays]
    """Initializers with numbers in the weights file, by graph."""


def check(bundle: Bundle) -> Vetted:
    """Check a bundle's weights and graphs. Raises `BundleError`, which names the file and its fault."""
    content = bundle.content(WEIGHTS)
    stored = weights.read(content)
    for name, each in stored.items():
        _check_finite(name, each.array.reshape(-1))
    graphs = {name: bytes(bundle.content(name)) for name in dict.fromkeys((MODEL_GRAPH, bundle.manifest.gates_graph))}
    initializers: dict[str, Arrays] = {}
    for name, graph in graphs.items():
        try:
            external = Graph(stored.values()).check(graph)
        except BundleError as error:
            raise BundleError(f"{name}: {error}") from error
        initializers[name] = {each.name: _view(content, each) for each in external}
    return Vetted({name: each.array for name, each in stored.items()}, graphs, initializers)


def _view(content: memoryview, external: External) -> NDArray[np.generic]:
    count = math.prod(external.dims)
    return np.frombuffer(content, external.kind, count, external.start).reshape(external.dims)


def _check_finite(name: str, numbers: NDArray[np.generic]) -> None:
    if numbers.dtype.kind != "f":
        return
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        if some.dtype.itemsize == _HALF:  # none is over the limit; numbers that are not finite have this exponent
            right = bool((some.view(np.uint16) & _HALF_EXPONENT < _HALF_EXPONENT).all())
        else:  # a NaN is both the least and the greatest, and compares with nothing
            right = bool(some.min() >= -MAX_WEIGHT and some.max() <= MAX_WEIGHT)
        if not right:
            raise BundleError(f"{WEIGHTS}: {name[:64]!a} holds a number that is not finite, or over {MAX_WEIGHT:g}")
