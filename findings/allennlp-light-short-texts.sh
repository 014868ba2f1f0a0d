#!/usr/bin/env bash
# allennlp-light 1.0.0, the modules of AllenNLP without the rest: a batch trains StackedAlternatingLstmSeq2VecEncoder by
# its longest text alone. The last states of texts that are shorter are copied without their history at every further step, so
# they are right as numbers and have no gradient: that of the weights is the longest text's, as if the batch held no other,
# and which texts are learned from depends on which lie together. Of 1 and 3 layers, whose last one runs forward, it holds
# whole; StackedBidirectionalLstmSeq2VecEncoder loses the forward half of its last layer. Two layers, whose last one runs
# backward, and LstmSeq2VecEncoder, on nn.LSTM, have the sum of all texts. The documentation names none of it. No error and
# no warning. Issue 2530 of AllenNLP's tracker suspected the copy in 2019 and is closed; the copy is still there.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet allennlp-light==1.0.0 ai2-tango==1.3.2 torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import warnings
from importlib.metadata import version

import torch
from allennlp_light.modules.seq2vec_encoders import pytorch_seq2vec_wrapper as encoders

WIDE, UNITS, LENGTHS = 4, 6, (7, 5, 2)
torch.manual_seed(0)
texts = torch.randn(len(LENGTHS), max(LENGTHS), WIDE, dtype=torch.float64)
mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
print("allennlp-light", version("allennlp-light"), "torch", torch.__version__)


def gradient(encoder, texts, mask, half=slice(None)):
    """The gradients of the sum of the answers: by the weights, in a row, and by each text."""
    given = texts.clone().requires_grad_()
    encoder.zero_grad()
    encoder(given, mask)[:, half].sum().backward()
    weights = [torch.zeros_like(one) if one.grad is None else one.grad for one in encoder.parameters()]
    weights = torch.cat([one.flatten() for one in weights])
    return weights, given.grad.abs().sum(dim=(1, 2))


def by_difference(encoder, half=slice(None), step=1e-6):
    """How the answer to each text changes with its first word, by the difference of two runs."""
    with torch.no_grad():
        moved = texts.clone()
        moved[:, 0, 0] += step
        return ((encoder(moved, mask) - encoder(texts, mask))[:, half].sum(dim=1) / step).abs()


FORWARD = slice(0, UNITS)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for name, layers, half, lost in (
        ("StackedAlternatingLstmSeq2VecEncoder", 1, slice(None), True),
        ("StackedAlternatingLstmSeq2VecEncoder", 3, slice(None), True),
        ("StackedBidirectionalLstmSeq2VecEncoder", 1, FORWARD, True),
        ("StackedAlternatingLstmSeq2VecEncoder", 2, slice(None), False),
        ("LstmSeq2VecEncoder", 1, slice(None), False),
    ):
        encoder = getattr(encoders, name)(WIDE, UNITS, num_layers=layers).double()
        weights, by_text = gradient(encoder, texts, mask, half)
        alone = [gradient(encoder, texts[n : n + 1, :long], mask[n : n + 1, :long], half) for n, long in enumerate(LENGTHS)]
        with torch.no_grad():
            same = [encoder(texts[n : n + 1, :long], mask[n : n + 1, :long])[0] for n, long in enumerate(LENGTHS)]
            assert float((encoder(texts, mask) - torch.stack(same)).abs().max()) < 1e-9  # the answers are right
        total = sum(one for one, _ in alone)
        moved = by_difference(encoder, half)
        from_all, from_longest = float((weights - total).abs().max()), float((weights - alone[0][0]).abs().max())
        print(
            f"{name}, {layers} layer(s){', forward half' if half is FORWARD else ''}: gradient by texts of {LENGTHS} words "
            f"{[round(float(one), 3) for one in by_text]}, alone {[round(float(one), 3) for _, (one,) in alone]}; "
            f"weights off from the sum over the texts by {from_all:.0e}, from the longest alone by {from_longest:.0e}"
        )
        assert min(float(one) for _, (one,) in alone) > 0.1 and float(moved.min()) > 1e-4, (alone, moved)
        if lost:
            assert float(by_text[1:].max()) == 0 and from_longest < 1e-9 and from_all > 0.1, (by_text, from_all)
        else:
            assert float(by_text[1:].min()) > 0.1 and from_all < 1e-9, (by_text, from_all)
assert not [one for one in caught if "grad" in str(one.message).lower()], [str(one.message) for one in caught]
print("Use LstmSeq2VecEncoder, or batches of texts of one length.")
PY
