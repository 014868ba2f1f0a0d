#!/usr/bin/env bash
# transformers 5.24.0: Jamba drops the recurrent state of a cache when more than one token follows.
# Token by token the logits equal those of one run. In pieces of several tokens they do not, without an error or a warning:
# each piece starts its Mamba layers from an empty state, while its attention layers see the whole past.
# generate() with prefill_chunk_size gives other tokens. Falcon-H1 and Mamba 2 are right in pieces of any length.
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
from transformers import FalconH1Config, FalconH1ForCausalLM, JambaConfig, JambaForCausalLM

COMMON = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
JAMBA = {"num_hidden_layers": 4, "attn_layer_period": 4, "attn_layer_offset": 2, "num_experts": 2, "mamba_d_state": 8}
FALCON = {"num_hidden_layers": 2, "mamba_d_ssm": 32, "mamba_n_heads": 8, "mamba_d_head": 4, "mamba_d_state": 8}
ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def network(kind, config, **sizes):
    torch.manual_seed(0)
    model = kind(config(**COMMON, **ENDS, **sizes)).eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(std=0.2)
    return model


@torch.no_grad()
def in_pieces(model, tokens, sizes):
    """Logits of a text that is fed in pieces, the cache of one handed to the next."""
    cache, logits, start = None, [], 0
    for size in sizes:
        seen = torch.ones(1, start + size, dtype=torch.long)
        step = model(tokens[:, start : start + size], attention_mask=seen, cache=cache, use_cache=True)
        cache, start = step.cache, start + size
        logits.append(step.logits)
    return torch.cat(logits, 1)


heard = io.StringIO()
transformers.utils.logging.disable_default_handler()
transformers.utils.logging.add_handler(logging.StreamHandler(heard))
torch.manual_seed(1)
tokens = torch.randint(3, 50, (1, 12))
jamba = network(JambaForCausalLM, JambaConfig, **JAMBA)
falcon = network(FalconH1ForCausalLM, FalconH1Config, **FALCON)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for name, model, right in (("Jamba", jamba, False), ("Falcon-H1", falcon, True)):
        whole = in_pieces(model, tokens, [12])
        singly = float((in_pieces(model, tokens, [6] + [1] * 6) - whole).abs().max())
        halves = in_pieces(model, tokens, [6, 6])
        first, second = (float((halves[:, part] - whole[:, part]).abs().max()) for part in (slice(6), slice(6, 12)))
        print(f"transformers {transformers.__version__}, {name}: one by one off by {singly:.0e}, two pieces {first:.0e} and {second:.0e}")
        assert singly < 1e-4 and first < 1e-4 and (second < 1e-4) == right and (right or second > 0.5), (singly, first, second)
    options = {"attention_mask": torch.ones_like(tokens), "do_sample": False, "max_new_tokens": 8, "min_new_tokens": 8}
    for name, model, right in (("Jamba", jamba, False), ("Falcon-H1", falcon, True)):
        plain = model.generate(tokens, **options)[0, 12:].tolist()
        pieces = model.generate(tokens, prefill_chunk_size=4, **options)[0, 12:].tolist()
        print(f"{name}, generate: {plain}; with prefill_chunk_size=4: {pieces}")
        assert (plain == pieces) == right, (plain, pieces)
said = heard.getvalue().replace("\0", "").splitlines() + [str(one.message) for one in caught]
said = [line for line in said if line and "falling back to its reference PyTorch implementation" not in line]
assert not said, said
print("Feed a cached Jamba one token at a time: of several tokens the first does not see the recurrent state.")
PY
