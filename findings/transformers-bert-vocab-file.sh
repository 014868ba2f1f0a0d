#!/usr/bin/env bash
# transformers 5.24.0: BertTokenizer(vocab_file=...) and BertTokenizerFast(vocab_file=...) do not read the file.
# The tokenizer has its five special tokens only, every word becomes [UNK], and nothing warns.
# transformers 4.57.6 reads the file. Version 4 is right: a named file that is not read must be an error.
# Version 5 reads the same file as first argument, as vocab=..., and through from_pretrained.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv four
four/bin/pip install --quiet transformers==4.57.6 tokenizers==0.22.1
python3 -m venv five
five/bin/pip install --quiet transformers==5.24.0 tokenizers==0.23.3
printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' '[MASK]' the film is good > vocab.txt
cat > program.py <<'PY'
import logging, warnings
import transformers
from transformers import BertTokenizerFast

heard = []
make = logging.getLogRecordFactory()


def record(*words, **named):
    heard.append(make(*words, **named))
    return heard[-1]


logging.setLogRecordFactory(record)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    named = BertTokenizerFast(vocab_file="vocab.txt")
caught += heard
first = named if transformers.__version__[0] == "4" else BertTokenizerFast("vocab.txt")
named.save_pretrained("saved-" + transformers.__version__)
again = BertTokenizerFast.from_pretrained("saved-" + transformers.__version__)
text = "the film is good"
found = [len(named), named(text)["input_ids"], first(text)["input_ids"], again(text)["input_ids"], len(caught)]
print("transformers", transformers.__version__, "- size, ids by name, ids by position, ids after save and load, warnings:", found)
right = [2, 5, 6, 7, 8, 3]
unknown = [2, 1, 1, 1, 1, 3]
assert found == {"4": [9, right, right, right, 0], "5": [5, unknown, right, unknown, 0]}[transformers.__version__[0]], found
PY
four/bin/python program.py
five/bin/python program.py
echo "transformers 5.24.0 ignores vocab_file without a word: four known words become [UNK], also after save and load."
