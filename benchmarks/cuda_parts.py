"""The parts of `benchmarks.cuda`: where nodes run, equality with the CPU, texts and training tokens a second, two
processes. Each is a sequence of lines, and the command stops it when its time is over.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from safetensors import safe_open

from benchmarks.cuda_share import Rows, batch_of
from benchmarks.measure import in_turns
from service.model.bundle import WEIGHTS, Bundle, Feature, Manifest
from service.model.engine import Engine, Provider
from training.data.batches import Sample
from training.loop.fit import Precision, Recipe, fit, refusal, seed_everything
from training.nets.networks import Architecture, Network

MOST_TOKENS = 131_072
PROCESSES = (1, 2)
_WORDS, _LABELS = 20_000, ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
_ON_CUDA = {"lstm": None, "rnn": None, "gru": "after"}
"""Cells whose fused layers the CUDA provider has, and their form."""

Line = dict[str, object]


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of each part: parity's lengths and batch sizes, (rows, tokens) of the speeds, units and tokens of the
    training, batches of an epoch; rounds, and seconds of a turn."""

    lengths: tuple[int, ...] = (1, 2, 3, 7, 20, 64, 200, 511, 1024, 4096)
    rows: tuple[int, ...] = (1, 2, 8, 33, 128)
    speeds: tuple[tuple[int, int], ...] = ((1, 20), (64, 20), (256, 20), (64, 200))
    training: tuple[tuple[int, int], ...] = ((128, 24), (256, 24), (256, 200))
    batches: int = 40
    together: tuple[tuple[int, int], ...] = ((1, 20), (64, 20))
    rounds: int = 5
    seconds: float = 0.1
    shared_seconds: float = 4.0


FULL = Plan()
REHEARSAL = Plan(
    lengths=(1, 9),
    rows=(1, 5),
    speeds=((2, 5),),
    training=((8, 6),),
    batches=2,
    together=((2, 5),),
    rounds=1,
    seconds=0.001,
    shared_seconds=0.05,
)


def placement(engine: Engine, manifest: Manifest, name: str) -> Line:
    """The providers that run a model's nodes, and whether its recurrent layers run where the documentation says."""
    wanted = "cuda" if manifest.cell in _ON_CUDA and manifest.form == _ON_CUDA[manifest.cell] else "cpu"
    found = engine.placement
    return {
        "model": name,
        "cell": manifest.cell,
        "recurrent": dict(found.recurrent),
        "other": dict(found.other),
        "as_documented": found.provider == wanted,
    }


def largest_difference(one: Engine, other: Engine, batch: Rows) -> float:
    """Between the logits of two engines; past an input's own length, where a tagger's mean nothing, none counts."""
    pairs = zip(one.predict(batch), other.predict(batch), batch, strict=True)
    return max(
        float(np.abs(mine[: len(rows)] - theirs[: len(rows)]).max() if mine.ndim == 2 else np.abs(mine - theirs).max())
        for mine, theirs, rows in pairs
    )


def parity(
    bundle: Bundle, subject: Engine, baseline: Engine, lengths: Sequence[int], rows: Sequence[int]
) -> Iterator[Line]:
    """Every length with every batch size, ragged."""
    for tokens in lengths:
        for count in (count for count in rows if count * tokens <= MOST_TOKENS):
            difference = largest_difference(subject, baseline, batch_of(bundle, count, tokens, ragged=True))
            yield {"model": bundle.name, "rows": count, "tokens": tokens, "difference": difference}


def speed(bundle: Bundle, engine: Engine, on_cpu: Engine, device: torch.device, plan: Plan) -> Iterator[Line]:
    """Texts a second of whole predictions, ids to logits; of a torch layer alone, of the model's sizes, on the same
    device, from and to the host's memory; and of the model on the CPU, on one thread."""
    manifest = bundle.manifest
    layer = _layer(bundle).to(device).eval()
    for rows, tokens in plan.speeds:
        batch = batch_of(bundle, rows, tokens, ragged=False)
        drawn = torch.randn(rows, tokens, layer.input_size)
        calls: dict[str, Callable[[], object]] = {
            "model": partial(engine.predict, batch),
            "torch": partial(_pooled, layer, drawn, device),
            "cpu": partial(on_cpu.predict, batch),
        }
        rates = {name: rows / seconds for name, seconds in _in_turns(calls, plan).items()}
        yield {
            "model": bundle.name,
            "cell": manifest.cell,
            "rows": rows,
            "tokens": tokens,
            **{f"{name}_texts_a_second": round(rate, 1) for name, rate in rates.items()},
            "to_torch": round(rates["model"] / rates["torch"], 3),
            "to_cpu": round(rates["model"] / rates["cpu"], 3),
        }


def has_layer(manifest: Manifest) -> bool:
    """True if torch has a layer of a model's cell."""
    return manifest.cell in ("lstm", "rnn") or (manifest.cell == "gru" and manifest.form == "after")


def _layer(bundle: Bundle) -> torch.nn.RNNBase:
    manifest = bundle.manifest
    of_cell: dict[str, Callable[..., torch.nn.RNNBase]] = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    with safe_open(bundle.file(WEIGHTS), framework="numpy") as weights:
        shape = weights.get_slice("recurrent.0.W").get_shape()
    inputs = shape[1] if manifest.precision == "int8" else shape[2]
    return of_cell.get(manifest.cell, torch.nn.RNN)(
        inputs, manifest.hidden, manifest.layers, batch_first=True, bidirectional=len(manifest.directions) == 2
    )


def _pooled(layer: torch.nn.RNNBase, drawn: torch.Tensor, device: torch.device) -> torch.Tensor:
    with torch.inference_mode():
        states: torch.Tensor = layer(drawn.to(device))[0].amax(1)
        return states.cpu()


def _in_turns(calls: dict[str, Callable[[], object]], plan: Plan) -> dict[str, float]:
    """Seconds of one call of each, the median of the rounds; a first call of each warms up."""
    for call in calls.values():
        call()

    def seconds(call: Callable[[], object]) -> float:
        times, started = 0, time.perf_counter()
        while times == 0 or time.perf_counter() - started < plan.seconds:
            call()
            times += 1
        return (time.perf_counter() - started) / times

    rounds = in_turns(plan.rounds, *(partial(seconds, call) for call in calls.values()))
    return {name: median(each) for name, each in zip(calls, zip(*rounds, strict=True), strict=True)}


def training(device: torch.device, plan: Plan) -> Iterator[Line]:
    """Tokens a second of the training loop, a tagger of random texts, in float32 and with bfloat16."""
    precisions: tuple[Precision, ...] = ("full", "mixed")
    for units, tokens in plan.training:
        rates: dict[str, float] = {}
        for precision in precisions:
            if (why := refusal(precision, device)) is not None:
                yield {"units": units, "tokens": tokens, "precision": precision, "left_out": why}
                continue
            rates[precision] = _trained(units, tokens, precision, device, plan.batches)
            gained = round(rates[precision] / rates["full"], 3)
            sizes = {"units": units, "tokens": tokens, "precision": precision}
            yield {**sizes, "tokens_a_second": round(rates[precision]), "to_full": gained}


def _trained(units: int, tokens: int, precision: Precision, device: torch.device, batches: int) -> float:
    seed_everything(1)
    generator = np.random.default_rng(1)
    feature = Feature(name="word", size=_WORDS)
    shape = Architecture("ner", "lstm", ("forward", "backward"), 1, units, "tagger", _LABELS, (feature,))
    network = Network(shape).to(device)
    rows = 32
    samples = [
        Sample(generator.integers(0, _WORDS, (tokens, 1)).astype(np.int32), generator.integers(0, len(_LABELS), tokens))
        for _ in range(batches * rows)
    ]
    recipe = Recipe(epochs=1, batch_rows=rows, batch_tokens=rows * tokens, precision=precision)
    seconds = 0.0
    for some in (samples[: 2 * rows], samples):  # the first warms up
        started = time.perf_counter()
        fit(network, some, recipe, lambda _: 0.0, lambda _: None, device)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    return len(samples) * tokens / seconds


def together(bundle: Bundle, provider: Provider, plan: Plan) -> Iterator[Line]:
    """Texts a second of one process, and of two at the same time on the same device."""
    for rows, tokens in plan.together:
        rates = {count: _at_once(bundle.path, provider, count, rows, tokens, plan) for count in PROCESSES}
        yield {
            "model": bundle.name,
            "rows": rows,
            "tokens": tokens,
            **{f"{count}_processes_texts_a_second": round(rate, 1) for count, rate in rates.items()},
            "two_to_one": round(rates[2] / rates[1], 3),
        }


def _at_once(path: Path, provider: Provider, count: int, rows: int, tokens: int, plan: Plan) -> float:
    arguments = (str(path), provider, *map(str, (rows, tokens, plan.shared_seconds)))
    command = [sys.executable, "-m", "benchmarks.cuda_share", *arguments]
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 # ours
            )
            for _ in range(count)
        ]
        for each in started:
            assert each.stdout is not None
            if each.stdout.readline() != "ready\n":
                raise RuntimeError(f"a process that should share the device ended with status {each.wait()}")
        for each in started:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        return sum(float(each.communicate()[0]) for each in started)
