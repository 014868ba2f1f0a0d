#!/usr/bin/env bash
# mapie 1.6.0: the calibration error of split_strategy="array split", bins of equal count, depends on the order of the texts.
# The scores are cut into parts as they come, unsorted, and the largest of each part become the edges. In a shuffled set all
# of them lie near the top, nearly all texts share the first bin, where errors in both directions cancel: 0.016 in place of
# 0.204. Sorted by score first, the same pairs give 0.204. top_label_ece is built on the same function and inherits it.
# The other strategies take num_bins for the number of edges, not of bins: "uniform" with 10 is the error of 9 bins, with 1
# it is NaN; "quantile" has one bin for the lowest score alone and 9 for the rest. No error, and no warning but NumPy's at NaN.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet mapie==1.6.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
from importlib.metadata import version
import numpy as np
from mapie.metrics.calibration import expected_calibration_error, top_label_ece

random = np.random.default_rng(0)
TEXTS, BINS = 2000, 10
score = random.uniform(0.5, 1, TEXTS)
chance = np.where(score > 0.75, score - 0.2, score + 0.2)  # too sure above 0.75, not sure enough below
right = (random.uniform(size=TEXTS) < chance).astype(int)
order = np.argsort(score)


def mean_gap(parts):
    """Calibration error by its definition: gaps of the parts, weighed by their sizes."""
    return sum(len(part) * abs(right[part].mean() - score[part].mean()) for part in parts if len(part)) / TEXTS


def wide(count):
    """The error of `count` bins of one width on [0, 1]."""
    return mean_gap([np.flatnonzero((score > k / count) & (score <= (k + 1) / count)) for k in range(count)])


def equal(count):
    """The error of `count` bins of equal count."""
    return mean_gap(np.array_split(order, count))


def seen(split, bins=BINS, by=slice(None)):
    return expected_calibration_error(right[by], score[by], num_bins=bins, split_strategy=split)


def close(one, two):
    return abs(one - two) < 1e-9


print(f"mapie {version('mapie')}, {TEXTS} texts, {BINS} bins of equal count: the error is {equal(BINS):.4f}")
shuffled = [seen("array split", by=np.random.default_rng(seed).permutation(TEXTS)) for seed in range(5)]
print(f"'array split', sorted by score: {seen('array split', by=order):.4f}; shuffled: {np.round(shuffled, 4)}")
assert close(seen("array split", by=order), equal(BINS)), "the sorted set is wrong now"
assert max(shuffled) < 0.03 and len(set(shuffled)) == 5, shuffled

table = np.column_stack([1 - score, score])  # every text is of class 1 by its scores
labels = right.copy()
top = [top_label_ece(labels[by], table[by], num_bins=BINS, split_strategy="array split") for by in (order, slice(None))]
print(f"top_label_ece, sorted by score: {top[0]:.4f}; as they come: {top[1]:.4f}")
assert close(top[0], equal(BINS)) and top[1] < 0.03, top


def quantiles(count):
    """The lowest score alone, and bins of equal count between `count` quantiles."""
    cuts = np.searchsorted(score[order], np.quantile(score, np.linspace(0, 1, count))[:-1], side="right")
    return mean_gap(np.split(order, cuts))


for bins in (3, 5, 10, 15):
    uniform, quantile = seen("uniform", bins), seen("quantile", bins)
    print(f"'uniform', {bins} bins: {uniform:.4f}; right: {wide(bins):.4f}; with one bin less: {wide(bins - 1):.4f}")
    assert close(uniform, wide(bins - 1)) and not close(uniform, wide(bins)), bins
    print(f"'quantile', {bins} bins: {quantile:.4f}; right: {equal(bins):.4f}; between {bins} quantiles: {quantiles(bins):.4f}")
    assert close(quantile, quantiles(bins)), bins
with np.errstate(all="ignore"):
    one = seen("uniform", 1)
print(f"'uniform', 1 bin: {one}; right: {wide(1):.4f}")
assert np.isnan(one)
print("Sort by score before 'array split', and give one bin more to the other strategies.")
PY
