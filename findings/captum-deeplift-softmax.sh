#!/usr/bin/env bash
# captum 0.9.0: DeepLift and DeepLiftShap through nn.Softmax give a text other attributions in a batch than alone.
# From the multipliers of the softmax they subtract one mean over all rows, the other texts and the baselines among them,
# so words change their sign with the neighbours of their text. Alone a text is wrong too: the attributions do not sum to
# the difference of the outputs, which without the subtraction they do. Through nn.Sigmoid and nn.Tanh all is right.
# It concerns a softmax at the end and one in the middle, as in attention over the states of a recurrent net.
# Number 1367 of its issue tracker says that nothing should be subtracted; a cure (1849) is not in a release. That the
# texts of a batch mix is not said there.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet captum==0.9.0 torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
from importlib.metadata import version

import torch
from captum.attr import DeepLift, DeepLiftShap
from torch import nn

CLASS, TEXTS, SIZE = 1, 6, 5


class Head(nn.Module):
    """A classifier over the last states of texts."""

    def __init__(self, last):
        super().__init__()
        self.inner, self.tanh, self.outer, self.last = nn.Linear(SIZE, 4), nn.Tanh(), nn.Linear(4, 3), last

    def forward(self, states):
        return self.last(self.outer(self.tanh(self.inner(states))))


class Attention(nn.Module):
    """A GRU whose states are summed with the weights of a softmax over time."""

    def __init__(self):
        super().__init__()
        self.gru, self.score = nn.GRU(SIZE, 8, batch_first=True), nn.Linear(8, 1)
        self.softmax, self.outer = nn.Softmax(dim=1), nn.Linear(8, 3)

    def forward(self, steps):
        states, _ = self.gru(steps)
        return self.outer((self.softmax(4 * self.score(states)) * states).sum(dim=1))


def rescale(head, states, base):
    """DeepLift's rescale rule for Head, written out: the differences of each layer, multiplied from the end."""

    def layers(x):
        before = head.inner(x)
        after = head.tanh(before)
        logits = head.outer(after)
        return before, after, logits, head.last(logits)

    before, after, logits, answer = (x - y for x, y in zip(layers(states), layers(base), strict=True))
    wanted = torch.nn.functional.one_hot(torch.tensor(CLASS), 3)
    multiplier = wanted * answer / logits @ head.outer.weight * after / before @ head.inner.weight
    return multiplier * (states - base)


def attributions(model, inputs, base, method=DeepLift):
    """All texts in one batch, and each text alone."""
    explain = method(model).attribute

    def cut(size):
        parts = [explain(part, base[:size] if method is DeepLift else base, target=CLASS) for part in inputs.split(size)]
        return torch.cat(parts).detach()

    return cut(len(inputs)), cut(1)


torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
states, base = torch.randn(TEXTS, SIZE), torch.zeros(TEXTS, SIZE)
print("captum", version("captum"))
for last, right in ((nn.Sigmoid(), True), (nn.Softmax(dim=1), False)):
    head = Head(last).eval()
    batch, alone = attributions(head, states, base)
    change = (head(states) - head(base))[:, CLASS].detach()
    wanted = rescale(head, states, base).detach()
    apart, off, flips = (batch - alone).abs().max(), (alone.sum(1) - change).abs().max(), (batch * alone < 0).sum()
    print(f"{type(last).__name__}: batch and alone differ by {apart:.0e}, signs changed {flips} of {batch.numel()};")
    print(f"  outputs change by up to {change.abs().max():.2f}, sums of the attributions alone are off by {off:.0e}")
    assert (wanted.sum(1) - change).abs().max() < 1e-12
    assert ((batch - wanted).abs().max() < 1e-8) == ((alone - wanted).abs().max() < 1e-8) == right
    assert right or (apart > 0.01 and flips > 0 and off > 0.005), (apart, flips, off)
    shap = attributions(head, states, torch.randn(4, SIZE), DeepLiftShap)
    assert ((shap[0] - shap[1]).abs().max() < 1e-8) == right

steps = torch.randn(TEXTS, 7, SIZE)
batch, alone = attributions(Attention().eval(), steps, torch.zeros_like(steps))
batch, alone = batch.sum(2), alone.sum(2)
apart, flips = (batch - alone).abs().max(), (batch * alone < 0).sum()
print(f"Attention over a GRU: attributions of words up to {alone.abs().max():.2f}, batch and alone differ by {apart:.2f},")
print(f"  {flips} of {batch.numel()} words change their sign")
assert apart > 0.05 * alone.abs().max() and flips > 0, (apart, flips)
PY
