"""Models on an NVIDIA GPU, within eight minutes: the provider of each node, equality with the CPU's answers at many
lengths and batch sizes, texts a second beside torch's own layer on the same GPU and beside the CPU, tokens a second of
training with and without bfloat16, and two processes on one GPU.

Without a GPU it says so and ends with status 2. ``--rehearse`` runs all of it on the CPU in small sizes, to see that
the script works before a GPU is there. A part whose time is over stops, and the command names it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import onnxruntime as ort
import torch

from benchmarks.cuda_parts import FULL, REHEARSAL, Line, Plan, has_layer, parity, placement, speed, together, training
from service.model import bundle as bundles
from service.model.bundle import Bundle
from service.model.engine import Engine, Provider, available_providers

MODELS = Path(__file__).resolve().parents[1] / "models"
NO_GPU, UNLIKE = 2, 1
"""Statuses: nothing to measure on, and answers that differ."""
TOLERANCE = 1e-4
"""Largest difference between two logits, both in float32 without TF32."""
MINUTES = 8.0
_SHARES = {"parity": 0.35, "speed": 0.3, "training": 0.2, "together": 0.15}
"""The share of the time left after loading that each part may take. A part that ends early leaves its rest to the
next."""


def without_gpu() -> str | None:
    """Why nothing can be measured here; None where both torch and ONNX Runtime can use a GPU."""
    if "CUDAExecutionProvider" not in available_providers():
        return "this ONNX Runtime cannot use CUDA: install the extra `cuda` (onnxruntime-gpu) in place of `cpu`"
    if not torch.cuda.is_available():
        return "torch finds no GPU: there is none, or no driver, or this torch is built for the CPU alone"
    return None


def within(lines: Iterator[Line], ends: float, tell: Callable[[Line], None]) -> tuple[list[Line], bool]:
    """The lines that are done before the time `ends` of the monotonic clock, each told when it is done; and whether
    that is all of them. The line that is under way at the end still counts."""
    found: list[Line] = []
    while time.monotonic() < ends:
        line = next(lines, None)
        if line is None:
            return found, True
        found.append(line)
        tell(line)
    return found, False


class Parts:
    """Runs the parts one after the other, and keeps their lines."""

    def __init__(self, ends: float) -> None:
        self._ends = ends
        self.lines: dict[str, list[Line]] = {}
        self.unfinished: list[str] = []

    def run(self, name: str, lines: Iterator[Line]) -> None:
        """One part, in its share of the time that the parts from here on have."""
        names = list(_SHARES)
        rest = sum(_SHARES[each] for each in names[names.index(name) :])
        now = time.monotonic()
        ends = now + max(0.0, self._ends - now) * _SHARES[name] / rest
        self.lines[name], whole = within(lines, ends, lambda line: click.echo(f"{name}: {json.dumps(line)}"))
        if not whole:
            self.unfinished.append(name)
            click.echo(f"{name}: the time is over; lines after the last one are left out")


@click.command()
@click.option("--output", type=click.Path(path_type=Path), help="File for the figures, as JSON.")
@click.option("--models", type=click.Path(path_type=Path), default=MODELS, help="Folder of the models to try.")
@click.option("--minutes", type=click.FloatRange(min=0), default=MINUTES, show_default=True, help="Time for all parts.")
@click.option("--rehearse", is_flag=True, help="Run it on the CPU in small sizes, to see that it works.")
def main(output: Path | None, models: Path, minutes: float, rehearse: bool) -> None:
    ends = time.monotonic() + minutes * 60
    why = None if rehearse else without_gpu()
    if why is not None:
        click.echo(f"no GPU to measure on: {why}", err=True)
        sys.exit(NO_GPU)
    provider: Provider = "cpu" if rehearse else "cuda"
    device = torch.device(provider)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    where = "the CPU, a rehearsal: no figure of it counts" if rehearse else torch.cuda.get_device_name()
    click.echo(f"measured on {where}")
    everything: dict[str, object] = {
        "device": where,
        "versions": {"onnxruntime": ort.__version__, "torch": torch.__version__},
    }
    placements: list[Line] = []
    engines: list[tuple[Bundle, Engine, Engine]] = []
    for name, versions in bundles.discover(models):
        bundle = bundles.load(models / name / str(versions[-1]))
        engines.append((bundle, Engine(bundle, provider=provider), Engine(bundle)))
        placements.append(placement(engines[-1][1], bundle.manifest, name))
        click.echo(f"placement: {json.dumps(placements[-1])}")
    parts = run_parts(engines, device, provider, ends, REHEARSAL if rehearse else FULL)
    worst = max((float(str(line["difference"])) for line in parts.lines["parity"]), default=0.0)
    click.echo(f"largest difference from the CPU: {worst:.2e} over {len(parts.lines['parity'])} batches")
    elsewhere = [] if rehearse else [str(line["model"]) for line in placements if not line["as_documented"]]
    if elsewhere:
        click.echo(f"recurrent layers of these run elsewhere than docs/deployment.md says: {', '.join(elsewhere)}")
    if output is not None:
        everything |= {"placement": placements, **parts.lines, "unfinished": parts.unfinished}
        output.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    if worst > TOLERANCE or elsewhere:
        sys.exit(UNLIKE)


def run_parts(
    engines: list[tuple[Bundle, Engine, Engine]], device: torch.device, provider: Provider, ends: float, plan: Plan
) -> Parts:
    """All parts but the placement. `engines` are, for each bundle, the one on the device and the one on the CPU."""
    parts = Parts(ends)
    # Short texts of all models come before long texts of the first.
    by_length = (
        line
        for length in plan.lengths
        for bundle, engine, on_cpu in engines
        for line in parity(bundle, engine, on_cpu, (length,), plan.rows)
    )
    parts.run("parity", by_length)
    there = [each for each in engines if each[1].provider == provider and has_layer(each[0].manifest)]
    rates = (line for bundle, engine, on_cpu in there for line in speed(bundle, engine, on_cpu, device, plan))
    parts.run("speed", rates)
    parts.run("training", training(device, plan))
    shared = (line for bundle, _, _ in there[:1] for line in together(bundle, provider, plan))
    parts.run("together", shared)
    return parts


if __name__ == "__main__":
    main()
