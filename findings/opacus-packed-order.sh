#!/usr/bin/env bash
# opacus 1.6.0: with texts of unequal length, packed in any order, the gradients per sample of DPLSTM, DPGRU and DPRNN come
# in the packed order, longest first, while those of the layers before and behind come in the order of the batch.
# Row 0 of grad_sample is one text's in the embedding and the head, and another's in the recurrent weights, without an error
# or a warning. The norm per sample joins the two, so each text is scaled by a norm that belongs to none: a text whose
# gradient is far beyond the bound is clipped by another's. The norms of grad_sample_mode="ghost" are wrong likewise.
# The answers of the network are right, and so are gradients of a batch that is sorted by length before it is packed.
# Its documentation names PackedSequence as an input and says nothing of the order. No issue of its tracker is known for it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet opacus==1.6.0 torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import logging
import warnings

import opacus
import torch
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleModuleFastGradientClipping
from opacus.layers import DPGRU, DPLSTM, DPRNN
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

WORDS, TEXTS, BOUND = 20, 4, 1.0
torch.manual_seed(0)
tokens, wanted = torch.randint(0, WORDS, (TEXTS, 9)), torch.tensor([0, 1, 1, 0])


class Classifier(nn.Module):
    """Words, one recurrent layer, the last state, two classes."""

    def __init__(self, layer):
        super().__init__()
        torch.manual_seed(1)
        self.words, self.layer, self.head = nn.Embedding(WORDS, 6), layer(6, 8, batch_first=True), nn.Linear(8, 2)
        with torch.no_grad():
            self.words.weight[:5] *= 5  # some words weigh more, so norms differ

    def forward(self, texts, lengths):
        packed = pack_padded_sequence(self.words(texts), lengths, batch_first=True, enforce_sorted=False)
        state = self.layer(packed)[1]
        return self.head((state[0] if isinstance(state, tuple) else state)[-1])


def one_by_one(plain, lengths):
    """Each text's gradient from nn.LSTM, nn.GRU or nn.RNN, run alone: a row a text."""
    rows = []
    for one, length in enumerate(lengths):
        plain.zero_grad()
        answer = plain(tokens[one : one + 1, :length], lengths[one : one + 1])
        nn.functional.cross_entropy(answer, wanted[one : one + 1]).backward()
        rows.append({name: weights.grad.clone() for name, weights in plain.named_parameters()})
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def norms(rows):
    return sum(values.flatten(1).pow(2).sum(1) for values in rows.values()).sqrt()


def apart(one, two):
    return float((one - two).abs().max())


def with_weights_of(plain, layer):
    network = Classifier(layer)
    for part in ("words", "layer", "head"):
        getattr(network, part).load_state_dict(getattr(plain, part).state_dict())
    return network


heard = []
handler = logging.Handler(logging.WARNING)
handler.emit = lambda record: heard.append(record.getMessage())
logging.getLogger().addHandler(handler)
for name, layer, private in (("LSTM", nn.LSTM, DPLSTM), ("GRU", nn.GRU, DPGRU), ("RNN", nn.RNN, DPRNN)):
    plain = Classifier(layer)
    for order, lengths in (("sorted", [9, 5, 4, 1]), ("any order", [4, 9, 1, 5])):
        lengths = torch.tensor(lengths)
        right, by_length = one_by_one(plain, lengths), lengths.argsort(descending=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            network = GradSampleModule(with_weights_of(plain, private))
            answers = network(tokens, lengths)
            nn.functional.cross_entropy(answers, wanted).backward()
            ghost = GradSampleModuleFastGradientClipping(with_weights_of(plain, private), max_grad_norm=BOUND)
            nn.functional.cross_entropy(ghost(tokens, lengths), wanted).backward()
        got = {key: weights.grad_sample for key, weights in network._module.named_parameters()}
        recurrent = [key for key in got if key.startswith("layer.")]
        off = max(apart(got[key], right[key]) for key in recurrent)
        moved = max(apart(got[key], right[key][by_length]) for key in recurrent)
        others = max(apart(got[key], right[key]) for key in got if key not in recurrent)
        norm, ghosts = apart(norms(got), norms(right)), apart(ghost.get_norm_sample(), norms(right))
        summed = max(apart(got[key].sum(0), right[key].sum(0)) for key in got)
        # what is left of the text with the largest gradient: its own rows, scaled by the factors it was given
        factor = (BOUND / norms(got)).clamp(max=1)
        place = {key: by_length.argsort() if key in recurrent else torch.arange(TEXTS) for key in got}
        left = norms({key: got[key][place[key]] * factor[place[key]].view(-1, *[1] * (got[key].dim() - 1)) for key in got})
        print(
            f"opacus {opacus.__version__}, DP{name}, {order}: recurrent rows off by {off:.0e} ({moved:.0e} in packed order), "
            f"other layers {others:.0e}; norms off by {norm:.0e}, in ghost mode {ghosts:.0e}; "
            f"largest norm after clipping to {BOUND:g}: {float(left.max()):.2f}"
        )
        assert apart(answers, plain(tokens, lengths)) < 1e-5 and others < 1e-5 and moved < 1e-5 and summed < 1e-5
        assert not any("sort" in text or "order" in text for text in [*heard, *(str(one.message) for one in caught)]), heard
        if order == "sorted":
            assert off < 1e-5 and norm < 1e-5 and ghosts < 1e-5 and left.max() < BOUND + 1e-5, (off, norm, ghosts)
        else:
            assert off > 0.05 and norm > 0.01 and ghosts > 0.01, (off, norm, ghosts)
print("Sort a batch by length before packing it, with its labels.")
PY
