"""A layer of minGRU or minLSTM as ONNX nodes: everything but one product and one sum a step stands outside the Scan.

No gate sees the state, so the gates of all steps are computed at once. The Scan's body is ``m_t = a_t * h_{t-1}`` and
``h_t = m_t + b_t``, with a the kept share and b the input's part. It emits m, because two outputs of a body may
not share a name: the state itself would need an Identity at each step. ``h = m + b`` follows for all steps together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, helper

from training.export.onnx.builder import Builder, value
from training.nets.minimal import LEAST
from training.nets.networks import Architecture

Gates = dict[str, str]
"""Gate name → the name of its value in the graph."""


def layer(builder: Builder, architecture: Architecture, name: str, readers: Sequence[str], zeros: str) -> Gates:
    """Every gate of a layer, [time, rows, units], the rows of one direction after those of the other.

    `readers` are the layer's inputs [time, batch, inputs], one for each direction, in the order in which it reads them;
    `zeros` [rows, units] is the state to begin with.
    """
    units = architecture.hidden
    sums = [_product(builder, reader, name, way) for way, reader in enumerate(readers)]
    both = builder.node("Concat", *sums, axis=1) if len(sums) > 1 else sums[0]
    # Split with sizes: the parts are [time, rows, units] of each gate's units.
    if architecture.cell == "mingru":
        update, candidate = builder.nodes_out("Split", 2, both, axis=2)
        z = builder.node("Sigmoid", update)
        kept, gates = builder.node("Sub", _number(builder, 1), z), {"update": z}
    else:
        logits, candidate = builder.nodes_out("Split", 2, both, builder.integers(2 * units, units), axis=2)
        kept, z = _normalised(builder, logits)
        gates = {"forget": kept, "input": z}
    c = builder.node("Tanh", candidate)
    taken = builder.node("Mul", z, c)
    return {**gates, "candidate": c, "hidden": _scan(builder, kept, taken, zeros, units)}


def _product(builder: Builder, states: str, name: str, way: int) -> str:
    """W x + B of one direction, for all steps: [time, batch, blocks * units]."""
    turned = builder.node("Transpose", builder.matrix(f"{name}.W", way), perm=[1, 0])
    return builder.node("Add", builder.node("MatMul", states, turned), builder.weight(f"{name}.B", way))


def _normalised(builder: Builder, logits: str) -> tuple[str, str]:
    """f / (f + i) and i / (f + i) from both gates' sums [time, rows, 2 * units].

    With u = 1 + e^-x, which is 1 / sigmoid(x), they are u_i / (u_f + u_i) and u_f / (u_f + u_i). That holds to the last
    digits far below 0, too. ONNX Runtime's Sigmoid has an absolute error of 1e-8 there and no bound on the relative
    one.
    """
    bounded = builder.node("Max", logits, _number(builder, LEAST))
    inverse = builder.node("Add", builder.node("Exp", builder.node("Neg", bounded)), _number(builder, 1))
    of_forget, of_input = builder.nodes_out("Split", 2, inverse, axis=2)
    total = builder.node("Add", of_forget, of_input)
    return builder.node("Div", of_input, total), builder.node("Div", of_forget, total)


def _scan(builder: Builder, kept: str, taken: str, zeros: str, units: int) -> str:
    body = builder.subgraph()
    before, a, b = (body.name(hint) for hint in ("before", "kept", "taken"))
    emitted = body.node("Mul", a, before)
    after = body.node("Add", emitted, b)
    ins, outs = (
        [value(each, TensorProto.FLOAT, "rows", units) for each in names]
        for names in ((before, a, b), (after, emitted))
    )
    graph = helper.make_graph(body.nodes, body.name("step"), ins, outs)
    _, all_ = builder.nodes_out("Scan", 2, zeros, kept, taken, body=graph, num_scan_inputs=2)
    return builder.node("Add", all_, taken)


def _number(builder: Builder, number: float) -> str:
    return builder.constant(np.array(number, np.float32))
