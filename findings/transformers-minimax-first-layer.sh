#!/usr/bin/env bash
# transformers 5.24.0: MiniMax with a linear layer first answers wrongly from its cache, as soon as padding or pieces come.
# MiniMax-Text-01 has that order: seven layers of linear attention, a recurrence, before one of full attention. generate()
# of a batch with padding on the left gives a right first token and wrong ones from the second on; without the cache all
# are right. A text read in pieces of several tokens is wrong from the second piece. No error and no warning.
# With full attention first, the order of MiniMaxConfig's default, all is right, and so is a single row token by token.
# The cache counts its tokens in the first layer, and a linear one keeps no keys: get_seq_length() is 0.
# No issue of its tracker is known that names it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet transformers==5.24.0 torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import io
import logging
import warnings
import torch
import transformers
from transformers import MiniMaxConfig, MiniMaxForCausalLM

SIZES = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "head_dim": 8}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 2, "num_experts_per_tok": 1}
SIZES |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "block_size": 4}
NEW = 8
heard = io.StringIO()
transformers.utils.logging.disable_default_handler()
transformers.utils.logging.add_handler(logging.StreamHandler(heard))
torch.manual_seed(1)
short, long = torch.randint(3, 50, (1, 5)), torch.randint(3, 50, (1, 9))
batch = torch.cat([torch.cat([torch.zeros(1, 4, dtype=torch.long), short], 1), long])


def network(*layers):
    torch.manual_seed(0)
    model = MiniMaxForCausalLM(MiniMaxConfig(**SIZES, layer_types=list(layers))).eval()
    for weights in model.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=0.2)
    return model


def continued(model, tokens, **options):
    """The new tokens of the first row, and the logits that each was taken from."""
    options |= {"do_sample": False, "max_new_tokens": NEW, "min_new_tokens": NEW, "output_logits": True}
    mask = (tokens != 0).long()
    answer = model.generate(tokens, attention_mask=mask, return_dict_in_generate=True, **options)
    return answer.sequences[0, tokens.shape[1] :].tolist(), torch.stack([logits[0] for logits in answer.logits])


def in_pieces(model, size):
    """The logits of the long text, read a piece at a time."""
    cache, found = None, []
    for start in range(0, long.shape[1], size):
        piece = long[:, start : start + size]
        places = torch.arange(start, start + piece.shape[1])[None]
        answer = model(piece, position_ids=places, use_cache=True, cache=cache)
        cache, _ = answer.cache, found.append(answer.logits)
    return torch.cat(found, 1)


def apart(one, two):
    return float((one - two).abs().max())


for layers in (("linear_attention", "full_attention"), ("full_attention", "linear_attention")):
    model = network(*layers)
    heard.seek(0)
    heard.truncate()
    with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        alone, logits = continued(model, short, use_cache=False)
        words, beside = continued(model, batch)
        uncached, _ = continued(model, batch, use_cache=False)
        single, _ = continued(model, short)
        whole, counted = model(long).logits, model(long, use_cache=True).cache.get_seq_length()
        pieces, steps = apart(in_pieces(model, 3), whole), apart(in_pieces(model, 1), whole)
    said = heard.getvalue() + " ".join(str(one.message) for one in caught)
    first, later = apart(beside[0], logits[0]), apart(beside[1], logits[1])
    print(
        f"transformers {transformers.__version__}, MiniMax, {layers[0]} first: a left-padded row's first logits off by "
        f"{first:.0e}, the second by {later:.0e}; pieces of 3 tokens {pieces:.0e}, of 1 {steps:.0e}; same tokens {words == alone}; "
        f"tokens in the cache {counted} of {long.shape[1]}"
    )
    assert first < 1e-4 and steps < 1e-4 and uncached == alone and single == alone, (first, steps)
    assert "mask" not in said and "padd" not in said and "cache" not in said, said
    if layers[0] == "linear_attention":
        assert later > 0.5 and pieces > 0.5 and words != alone and counted == 0, (later, pieces, counted)
    else:
        assert later < 1e-4 and pieces < 1e-4 and words == alone and counted == 9, (later, pieces, counted)
print("Run rows of one length together, whole prompts at once, or use_cache=False.")
PY
