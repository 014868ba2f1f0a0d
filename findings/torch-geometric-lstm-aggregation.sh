#!/usr/bin/env bash
# torch_geometric 2.8.1: LSTMAggregation and GRUAggregation run through the padding. The neighbours of all nodes are padded
# with zeros to the largest count in the batch, and the answer is the output at the last place: for every node but the
# largest, that of a layer that went on over zeros. A node's answer therefore depends on the neighbours of nodes it has
# nothing to do with, in other graphs of the batch too: SAGEConv(aggr="lstm") answers otherwise for a graph alone than beside
# another. With mean, max and sum it does not. No error and no warning; the documentation asks for sorted indices, as here,
# and warns of the order of neighbours, not of this. to_dense_batch returns the mask that would mend it; it is thrown away.
# GraphSAGE's own program takes the output at the last neighbour. No issue of the tracker is known that names it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet torch-geometric==2.8.1 torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import warnings

import numpy as np
import torch
import torch_geometric
from torch_geometric.data import Batch, Data
from torch_geometric.nn import SAGEConv
from torch_geometric.nn.aggr import GRUAggregation, LSTMAggregation

WIDE = 8


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def last_state(layer, steps):
    """The last state of an LSTM or a GRU over these steps alone, in float64 NumPy."""
    weights = {name: values.detach().double().numpy() for name, values in layer.named_parameters()}
    h, c = np.zeros(WIDE), np.zeros(WIDE)
    for step in steps.double().numpy():
        of_input = weights["weight_ih_l0"] @ step + weights["bias_ih_l0"]
        of_state = weights["weight_hh_l0"] @ h + weights["bias_hh_l0"]
        if isinstance(layer, torch.nn.LSTM):
            i, f, g, o = np.split(of_input + of_state, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            r, z = (sigmoid(one + two) for one, two in zip(np.split(of_input, 3)[:2], np.split(of_state, 3)[:2]))
            n = np.tanh(np.split(of_input, 3)[2] + r * np.split(of_state, 3)[2])
            h = (1 - z) * n + z * h
    return h


def graph(neighbours, seed):
    """A node 0 with so many neighbours, edges sorted by destination."""
    random = torch.Generator().manual_seed(seed)
    edges = torch.stack([torch.arange(1, neighbours + 1), torch.zeros(neighbours, dtype=torch.long)])
    return Data(x=torch.randn(neighbours + 1, WIDE, generator=random), edge_index=edges)


def apart(one, two):
    return float((one - two).abs().max())


release = torch_geometric.__version__
with warnings.catch_warnings(record=True) as caught, torch.no_grad():
    warnings.simplefilter("always")
    for kind, name in ((LSTMAggregation, "lstm"), (GRUAggregation, "gru")):
        torch.manual_seed(0)
        aggregate = kind(WIDE, WIDE)
        layer = getattr(aggregate, name)
        x, index = torch.randn(9, WIDE), torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 1])
        wanted = torch.tensor(np.stack([last_state(layer, x[index == one]) for one in range(2)])).float()
        alone = torch.cat([aggregate(x[index == one], torch.zeros(int((index == one).sum()), dtype=torch.long)) for one in range(2)])
        got = aggregate(x, index)
        print(
            f"torch_geometric {release}, {kind.__name__}, 3 and 6 elements together: off by {apart(got[0], wanted[0]):.2f} and "
            f"{apart(got[1], wanted[1]):.0e}; each alone {apart(alone, wanted):.0e}"
        )
        assert apart(alone, wanted) < 1e-5 and apart(got[1], wanted[1]) < 1e-5
        assert apart(got[0], wanted[0]) > 0.05, got
    small, large = graph(2, 1), graph(40, 2)
    for aggregation in ("mean", "max", "sum", "lstm"):
        torch.manual_seed(0)
        layer = SAGEConv(WIDE, WIDE, aggr=aggregation).eval()
        alone = layer(small.x, small.edge_index)[0]
        both = Batch.from_data_list([small, large])
        beside = layer(both.x, both.edge_index)[0]
        print(f"SAGEConv, {aggregation}: a node's answer beside another graph is {apart(alone, beside):.0e} from that alone")
        assert apart(alone, beside) > 0.05 if aggregation == "lstm" else apart(alone, beside) < 1e-5, aggregation
assert not [str(one.message) for one in caught if "lstm" in str(one.message).lower() or "pad" in str(one.message).lower()]
print("Take to_dense_batch and its mask, and the output at each node's own last neighbour.")
PY
