#!/usr/bin/env bash
# datasets 5.2.0: load_dataset of several Parquet files reads all labels by the names of the first file.
# Each file that to_parquet writes holds the names of its labels in its own order. Where the orders differ, as of tagged
# files made on different days from the tags that were seen, the labels of all later files come back as other labels.
# No error and no warning. Each file alone is read right, and concatenate_datasets and interleave_datasets refuse the same pair.
# cast to a ClassLabel with another order keeps the numbers as well, and so renames the labels; it keeps numbers out of range too.
# Its tracker knows numbers out of range (number 8596, open); of orders that differ no issue is known.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HF_HOME="$work" HF_HUB_OFFLINE=1
python3 -m venv venv
venv/bin/pip install --quiet datasets==5.2.0 pyarrow==26.0.1 pandas==3.1.1 numpy==2.4.6
venv/bin/python - <<'PY'
import warnings
import datasets
from datasets import ClassLabel, Dataset, Features, List, concatenate_datasets, load_dataset

warnings.simplefilter("error")
datasets.disable_progress_bars()
TAGS = ["O", "B-PER", "B-LOC"]
ORDERS = {"first": ["O", "B-PER", "B-LOC"], "second": ["O", "B-LOC", "B-PER"]}


def read(rows):
    """The names of the tags of each row."""
    label = rows.features["tags"].feature
    return [[label.int2str(tag) for tag in tags] for tags in rows["tags"][:]]


parts = {}
for name, order in ORDERS.items():
    features = Features({"tags": List(ClassLabel(names=order))})
    parts[name] = Dataset.from_dict({"tags": [TAGS]}, features=features)
    assert read(parts[name]) == [TAGS]
    parts[name].to_parquet(f"{name}.parquet")
    assert read(load_dataset("parquet", data_files=f"{name}.parquet", split="train")) == [TAGS]
both = read(load_dataset("parquet", data_files=["first.parquet", "second.parquet"], split="train"))
print(f"datasets {datasets.__version__}: the tags {TAGS} of two files are read as {both}")
assert both == [TAGS, ["O", "B-LOC", "B-PER"]], both
try:
    concatenate_datasets(list(parts.values()))
except ValueError as error:
    assert "can't be aligned" in str(error), error
    print("concatenate_datasets refuses the same two.")
else:
    raise AssertionError("concatenate_datasets takes them now")
cast = read(parts["first"].cast(parts["second"].features))
print("cast to the other order gives", cast[0])
assert cast == [["O", "B-LOC", "B-PER"]], cast
few = parts["first"].cast(Features({"tags": List(ClassLabel(names=["O", "B-PER"]))}))
assert few["tags"][:] == [[0, 1, 2]], few["tags"][:]
print("cast to two labels keeps the number 2, which has no name.")
PY
