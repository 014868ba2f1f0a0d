#!/usr/bin/env bash
# transformers 5.24.0: the token-classification pipeline takes words (is_split_into_words=True), and with the strategies
# first, average and max, under which a word has one tag by the documentation, it does not keep to the words it was given.
# Whether a piece goes on a word is still guessed from its "##", so each sign that a BERT tokenizer cuts off counts as a word
# of its own: the tokens New-York and U.S. of a CoNLL file come back as three and four words, with tags that differ, and an
# entity falls apart in the middle of a token. The ids of the given words are at hand, and only used for start and end.
# No error and no warning. Tags taken by the tokenizer's word_ids are right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HF_HOME="$work" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install --quiet transformers==5.24.0 tokenizers==0.23.3 torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'PY'
import warnings
from importlib.metadata import version

import torch
from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast, pipeline

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"she left new york for the u s with an ##na lee . -".split()]
TAGS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
SEEN = {"new": "B-LOC", "york": "I-LOC", "u": "B-LOC", "an": "B-PER", "##na": "O", "lee": "I-PER"}  # all others are O
TEXT = ["She", "left", "New-York", "for", "the", "U.S.", "with", "Anna", "Lee", "."]


def network():
    """A tagger without layers: every piece has the tag of `SEEN`."""
    size = len(WORDS)
    sizes = dict(vocab_size=size, hidden_size=size, num_hidden_layers=0, num_attention_heads=1, intermediate_size=4)
    names = dict(num_labels=len(TAGS), id2label=dict(enumerate(TAGS)), label2id={tag: n for n, tag in enumerate(TAGS)})
    model = BertForTokenClassification(BertConfig(**sizes, **names)).eval()
    with torch.no_grad():
        for weights in (*model.bert.embeddings.parameters(), *model.classifier.parameters()):
            weights.zero_()
        model.bert.embeddings.LayerNorm.weight.fill_(1)
        model.bert.embeddings.word_embeddings.weight.copy_(torch.eye(size))
        for number, word in enumerate(WORDS):
            model.classifier.weight[TAGS.index(SEEN.get(word, "O")), number] = 1
    return model


warnings.simplefilter("error")
model = network()
tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(WORDS)}, do_lower_case=True)
print(f"transformers {version('transformers')}, words {TEXT}")

# One tag a given word, by its first piece.
pieces = tokenizer(TEXT, is_split_into_words=True, return_tensors="pt")
with torch.no_grad():
    best = model(**pieces).logits[0].argmax(-1).tolist()
wanted = {}
for tag, word in zip(best, pieces.word_ids(0), strict=True):
    if word is not None:
        wanted.setdefault(word, TAGS[tag])
print("tags by word_ids, first piece:", [wanted[word] for word in range(len(TEXT))])
assert [wanted[word] for word in (2, 5, 7)] == ["B-LOC", "B-LOC", "B-PER"]

sentence, places = " ".join(TEXT), []
for word in TEXT:
    places.append(len(" ".join(TEXT[: len(places)])) + bool(places))
    assert sentence[places[-1] :].startswith(word)
for strategy in ("first", "average", "max"):
    tagger = pipeline("token-classification", model=model, tokenizer=tokenizer, aggregation_strategy=strategy)
    found = tagger([TEXT], is_split_into_words=True)
    found = found[0] if isinstance(found[0], list) else found
    shown = [(one["entity_group"], sentence[one["start"] : one["end"]]) for one in found]
    print(f"{strategy}: {shown}")
    assert shown == [("LOC", "New"), ("LOC", "York"), ("LOC", "U"), ("PER", "Anna Lee")], shown
    ends = {place + len(word) for place, word in zip(places, TEXT, strict=True)}
    torn = [one for one in found if one["start"] not in places or one["end"] not in ends]
    assert len(torn) == 3, torn
print("Take the tags of words by word_ids; the pipeline's words are those of its tokenizer.")
PY
