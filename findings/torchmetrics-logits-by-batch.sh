#!/usr/bin/env bash
# torchmetrics 1.9.0: calibration error and accuracy of the same logits depend on how they are cut into batches.
# Each update decides for its own batch: all values within 0 to 1 are taken as probabilities, else as logits.
# A batch of logits that happen to lie within 0 to 1 is not passed through the softmax or the sigmoid.
# Pass probabilities, never logits.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet torchmetrics==1.9.0 torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import torch
import torchmetrics
from torchmetrics.classification import BinaryAccuracy, MulticlassCalibrationError


def score(metric, scores, labels, size):
    for start in range(0, len(labels), size):
        metric.update(scores[start : start + size], labels[start : start + size])
    return round(float(metric.compute()), 4)


logits = torch.tensor([[3.0, -1.0], [0.9, 0.2], [0.1, 0.8], [0.7, 0.3]])
labels = torch.tensor([0, 0, 1, 0])
error = [score(MulticlassCalibrationError(num_classes=2, n_bins=10), logits, labels, size) for size in (4, 1)]
right = score(MulticlassCalibrationError(num_classes=2, n_bins=10), logits.softmax(dim=1), labels, 1)
single = torch.tensor([0.2, 0.4, 3.0, 0.3])
accuracy = [score(BinaryAccuracy(), single, torch.ones(4, dtype=torch.long), size) for size in (4, 1)]
print(f"torchmetrics {torchmetrics.__version__}: batches of 4 and of 1: calibration error {error} (softmax first: {right}), accuracy {accuracy}")
assert error[0] == right and abs(error[1] - right) > 0.05, (error, right)
assert accuracy == [1.0, 0.25], accuracy
print("The same logits and labels score differently when they arrive one by one.")
PY
