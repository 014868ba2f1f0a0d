#!/usr/bin/env bash
# transformers 5.24.0: RWKV ignores attention_mask. In a batch padded on the left, the side that generate() needs,
# the padding runs through the recurrence: logits and generated tokens of a row change with the longest row beside it.
# No error and no warning. Mamba, Mamba 2 and LFM2 set padded steps to 0 and give each row the answer that it has alone.
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
from transformers import Lfm2Config, Lfm2ForCausalLM, Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM, RwkvConfig, RwkvForCausalLM

COMMON = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
KINDS = {
    "RWKV": (RwkvForCausalLM, RwkvConfig, {"attention_hidden_size": 32, "intermediate_size": 64}),
    "Mamba": (MambaForCausalLM, MambaConfig, {"state_size": 8}),
    "Mamba 2": (Mamba2ForCausalLM, Mamba2Config, {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8}),
    "LFM2": (Lfm2ForCausalLM, Lfm2Config, {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}),
}
heard = io.StringIO()
transformers.utils.logging.disable_default_handler()
transformers.utils.logging.add_handler(logging.StreamHandler(heard))
torch.manual_seed(1)
short, long = torch.randint(3, 50, (1, 5)), torch.randint(3, 50, (1, 9))
batch = torch.cat([torch.cat([torch.zeros(1, 4, dtype=torch.long), short], 1), long])
mask = (batch != 0).long()
options = {"do_sample": False, "max_new_tokens": 8, "min_new_tokens": 8}
for name, (kind, config, sizes) in KINDS.items():
    torch.manual_seed(0)
    model = kind(config(**COMMON, **sizes)).eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(std=0.2)
        heard.seek(0)
        heard.truncate()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            alone = model(short, attention_mask=torch.ones_like(short)).logits
            beside = model(batch, attention_mask=mask).logits[:1, 4:]
            unmasked = model(batch).logits[:1, 4:]
            words = model.generate(short, attention_mask=torch.ones_like(short), **options)[0, 5:].tolist()
            others = model.generate(batch, attention_mask=mask, **options)[0, 9:].tolist()
        said = heard.getvalue() + " ".join(str(one.message) for one in caught)
        off, kept = float((alone - beside).abs().max()), words == others
        print(f"transformers {transformers.__version__}, {name}: a left-padded row is off by {off:.0e}; same tokens: {kept}")
        if name == "RWKV":
            assert off > 0.5 and not kept and bool((beside == unmasked).all()), (off, kept)
            assert "mask" not in said and "padd" not in said, said
        else:
            assert off < 1e-4 and kept, (off, kept)
print("RWKV's logits are bit for bit the same with and without attention_mask: run its rows alone, or by equal length.")
PY
