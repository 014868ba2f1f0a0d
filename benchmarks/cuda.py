"""Models on an NVIDIA GPU: placement of their layers, equality with the CPU's answers at many lengths and batch sizes,
and speed beside torch's own layer on the same GPU. Without a GPU it says so and ends with status 2. With --output the
figures, and the name of the GPU, go into a file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import click
import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from benchmarks.measure import interleaved
from service.model import bundle as bundles
from service.model.bundle import WEIGHTS, Bundle
from service.model.engine import Engine, available_providers

MODELS = Path(__file__).resolve().parents[1] / "models"
NO_GPU, UNLIKE = 2, 1
"""Statuses: nothing to measure on, and answers that differ."""
TOLERANCE = 1e-4
"""Largest difference between two logits, both in float32 without TF32."""
LENGTHS = (1, 2, 3, 7, 20, 64, 200, 511, 1024, 4096)
ROWS = (1, 2, 8, 33, 128)
MOST_TOKENS = 131_072
SPEED = tuple((rows, tokens) for tokens in (20, 200) for rows in (1, 8, 64, 256))
ROUNDS, SECONDS = 9, 0.3

Rows = list[NDArray[np.int32]]
Line = dict[str, object]


def without_gpu() -> str | None:
    """Why nothing can be measured here; None where both torch and ONNX Runtime can use a GPU."""
    if "CUDAExecutionProvider" not in available_providers():
        return "this ONNX Runtime cannot use CUDA: install the extra `cuda` (onnxruntime-gpu) in place of `cpu`"
    if not torch.cuda.is_available():
        return "torch finds no GPU: there is none, or no driver, or this torch is built for the CPU alone"
    return None


def batch_of(bundle: Bundle, rows: int, tokens: int, *, ragged: bool) -> Rows:
    """Inputs of random ids, the first of `tokens` tokens, the others as long or, `ragged`, of any length up to that."""
    generator = np.random.default_rng(tokens * 1000 + rows)
    lengths = generator.integers(1, tokens + 1, rows) if ragged else np.full(rows, tokens)
    lengths[0] = tokens
    sizes = [feature.size for feature in bundle.manifest.features]
    return [generator.integers(0, sizes, (int(length), len(sizes))).astype(np.int32) for length in lengths]


def largest_difference(one: Engine, other: Engine, batch: Rows) -> float:
    """Between the logits of two engines; past an input's own length, where a tagger's mean nothing, none counts."""
    pairs = zip(one.predict(batch), other.predict(batch), batch, strict=True)
    return max(
        float(np.abs(mine[: len(rows)] - theirs[: len(rows)]).max() if mine.ndim == 2 else np.abs(mine - theirs).max())
        for mine, theirs, rows in pairs
    )


def parity(
    bundle: Bundle, subject: Engine, baseline: Engine, lengths: Sequence[int] = LENGTHS, rows: Sequence[int] = ROWS
) -> Iterator[Line]:
    """Every length with every batch size, ragged."""
    for tokens in lengths:
        for count in (count for count in rows if count * tokens <= MOST_TOKENS):
            difference = largest_difference(subject, baseline, batch_of(bundle, count, tokens, ragged=True))
            yield {"model": bundle.name, "rows": count, "tokens": tokens, "difference": difference}


def speed(bundle: Bundle, engine: Engine) -> Iterator[Line]:
    """Milliseconds of a whole prediction, ids to logits, and of a layer of torch alone, of its sizes, host to host."""
    manifest = bundle.manifest
    with safe_open(bundle.file(WEIGHTS), framework="numpy") as weights:
        inputs = sum(weights.get_slice(f"embedding.{each.name}").get_shape()[1] for each in manifest.features)
    kind = torch.nn.LSTM if manifest.cell == "lstm" else torch.nn.GRU
    layer = kind(
        inputs, manifest.hidden, manifest.layers, batch_first=True, bidirectional=len(manifest.directions) == 2
    )
    layer = layer.cuda().eval()
    for rows, tokens in SPEED:
        drawn = torch.randn(rows, tokens, inputs)
        subject = partial(engine.predict, batch_of(bundle, rows, tokens, ragged=False))
        pairs = interleaved(subject, partial(_torch, layer, drawn), ROUNDS, SECONDS)
        ours, theirs = (median(side) * 1e3 for side in zip(*pairs, strict=True))
        ratio = median(one / other for one, other in pairs)
        sizes = {"model": bundle.name, "rows": rows, "tokens": tokens}
        yield {**sizes, "ms": round(ours, 4), "torch_ms": round(theirs, 4), "ratio": round(ratio, 3)}


def _torch(layer: torch.nn.Module, drawn: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        states: torch.Tensor = layer(drawn.cuda())[0].amax(1)
        return states.cpu()


@click.command()
@click.option("--output", type=click.Path(path_type=Path), help="File for the figures, as JSON.")
@click.option("--models", type=click.Path(path_type=Path), default=MODELS, help="Folder of the models to try.")
def main(output: Path | None, models: Path) -> None:
    why = without_gpu()
    if why is not None:
        click.echo(f"no GPU to measure on: {why}", err=True)
        sys.exit(NO_GPU)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    figures: dict[str, object] = {
        "gpu": torch.cuda.get_device_name(),
        "versions": {"onnxruntime": ort.__version__, "torch": torch.__version__},
    }
    placements: list[Line] = []
    differences: list[Line] = []
    speeds: list[Line] = []
    for name, versions in bundles.discover(models):
        bundle = bundles.load(models / name / str(versions[-1]))
        engine, baseline = Engine(bundle, provider="cuda"), Engine(bundle)
        placements.append({"model": name, "cell": bundle.manifest.cell, "recurrent": dict(engine.placement.recurrent)})
        click.echo(f"{name}: recurrent layers on {engine.provider} {dict(engine.placement.recurrent)}")
        differences += parity(bundle, engine, baseline)
        if engine.provider == "cuda" and bundle.manifest.cell in ("lstm", "gru"):
            for line in speed(bundle, engine):
                speeds.append(line)
                click.echo(json.dumps(line))
    worst = max((float(str(line["difference"])) for line in differences), default=0.0)
    click.echo(f"largest difference from the CPU: {worst:.2e} over {len(differences)} batches")
    if output is not None:
        everything = {**figures, "placement": placements, "parity": differences, "speed": speeds}
        output.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    if worst > TOLERANCE:
        sys.exit(UNLIKE)


if __name__ == "__main__":
    main()
