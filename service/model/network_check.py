"""A look at a bundle's weights and graphs before they serve: are they those of the network in the manifest?

The graphs answer requests; the printed equations, streams, interventions and shares come from the manifest. A manifest
of another form of the cell, window, head or number type would be wrong without an error. So the equations run in NumPy
on one short random text, and their logits are compared with the trace graph's. A model that reads forward is also read
token by token, as streams are: these logits and gates must be the trace graph's, too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.errors import BundleError
from service.model import interventions, self_check
from service.model.bundle import WEIGHTS, Manifest
from service.model.engine import Engine, Trace
from service.model.network import Network
from service.model.streams import comparing
from service.model.weights_layout import STACKING, layer_name, scale_name

TOKENS = 5
"""Tokens of the text. The longest window reaches past both of its ends."""


def check(engine: Engine) -> None:
    """Compare a bundle's weights and its trace graph with the network that its manifest describes.

    Takes one to four milliseconds. Raises `BundleError`, which names the fields of the manifest that decide. Networks
    with tensors of no known use are only checked by the shapes of the known ones.
    """
    network = engine.network
    _check_precision(network)
    (row,) = self_check.random_rows(network.manifest.features, (TOKENS,), np.random.default_rng(1))
    try:
        _check_inputs(network, row)
        if network.unknown() is not None:
            return
        expected = interventions.run(network, [row], [()]).logits[0]
    except (ValueError, IndexError, KeyError, TypeError) as error:  # shapes that do not fit, tensors that are missing
        raise BundleError(f"{WEIGHTS} does not fit the manifest ({_said(network.manifest)})") from error
    trace = engine.trace([row])
    found = trace.logits[0]
    limit = self_check.tolerance(network.manifest) * max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(found - expected).max())
    if not difference <= limit:  # NaN is refused too
        raise BundleError(
            f"{network.manifest.gates_graph} is not the network of the manifest ({_said(network.manifest)}): by its "
            f"equations the logits differ by {difference:.2g}, the limit is {limit:.0e}. Correct the manifest, or "
            f"export the bundle again with `python -m training export`"
        )
    if network.manifest.reads_forward:
        _check_step(network, row, trace)


def _check_step(network: Network, row: NDArray[np.int32], trace: Trace) -> None:
    """The step that reads streams gives what the trace graph gives."""
    limit = self_check.tolerance(network.manifest)
    logits, gates = comparing.differences(network, [row], trace.logits, trace)
    if not (logits <= limit and gates <= limit):  # NaN is refused too
        raise BundleError(
            f"token by token, as streams are read, the answer is not that of {network.manifest.gates_graph}: the "
            f"logits differ by {logits:.2g}, the gates by {gates:.2g}, the limit is {limit:.0e}. This is NumPy "
            f"{np.__version__}: install the version of constraints.txt"
        )


def _check_precision(network: Network) -> None:
    """Weights of integers have scales; float32 ones have none."""
    whole = network.manifest.precision == "int8"
    for name in (f"{layer_name(number)}.W" for number in range(network.manifest.layers)):
        if (scale_name(name) in network.arrays) != whole:
            has = "has no" if whole else "has a"
            kind = "float32" if whole else "int8"
            raise BundleError(
                f"{WEIGHTS} {has} tensor {scale_name(name)}: its weights are {kind}, by the manifest the precision is "
                f"{network.manifest.precision}"
            )


def _check_inputs(network: Network, row: NDArray[np.int32]) -> None:
    """The first layer reads the vectors of all words of the window."""
    manifest, name = network.manifest, f"{layer_name(0)}.W"
    w = network.layer(0).w[STACKING[manifest.cell][0]]  # [directions, units, inputs]
    numbers = network.embed(row).shape[1]
    if w.shape[2] != numbers * manifest.window_words:
        raise BundleError(
            f"{WEIGHTS}: {name} reads {w.shape[2]} numbers at each step, by the manifest it is {manifest.window_words} "
            f"(window_words) times {numbers} (features)"
        )


def _said(manifest: Manifest) -> str:
    """The fields of a manifest that decide on the equations."""
    names = ("cell", "gru_reset", "peepholes", "window_words", "head", "characters", "precision")
    fields = {name: getattr(manifest, name) for name in names}
    return ", ".join(f"{name} {value}" for name, value in fields.items() if value is not None)
