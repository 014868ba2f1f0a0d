"""Attribution methods: the share of each token in an answer. All have one form, so that they can be compared.

Each takes a `Case` (one input, and the logit that is explained) and returns a number for each token. Some need a
backward pass through torch's network, some run the model again, and the rest read the trace alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.errors import BundleError
from service.model.activations import softmax
from service.model.bundle import Manifest
from service.model.contributions import contributions
from service.model.contributions import note as no_split
from service.model.equations import Direction
from service.model.network import Array as Single
from service.model.window_shares import word_shares
from training.export import restore
from training.nets.networks import Network, Passage
from training.nets.pooling import pool
from training.scoring import evaluate

Array = NDArray[np.float64]
Needs = Literal["trace", "runs", "gradients", "nothing"]

STEPS = 32
"""Points of an integrated gradient (Sundararajan, Taly and Yan 2017)."""
EPSILON = 1e-3
"""Number that LRP adds to a divisor (the epsilon rule, Arras et al. 2017)."""


@dataclass(frozen=True, slots=True)
class Case:
    """One input: its row int32 [tokens, columns], the explained label, and for a tagger the token."""

    row: NDArray[np.int32]
    label: int
    explained: int | None = None


class Subject(evaluate.Subject):
    """An explained bundle, with torch's network for methods that need gradients."""

    @cached_property
    def network(self) -> Network:
        """Raises `BundleError` for a bundle of integers."""
        return restore.network(self.bundle)

    def logits(self, row: NDArray[np.int32]) -> Array:
        """The fused graph's logits of one input: [labels], or [tokens, labels]."""
        found: Array = self.engine.predict([row])[0].astype(np.float64)
        return found


@dataclass(frozen=True, slots=True)
class Method:
    """A method, the parts that it `needs`, and the reason why it cannot explain a model (None if it can)."""

    needs: Needs
    explain: Callable[[Subject, Case], Array]
    why_not: Callable[[Manifest], str | None]


# From the trace alone


def _additive(manifest: Manifest) -> str | None:
    return no_split(manifest, explain=0)


@dataclass(frozen=True, slots=True)
class Traced:
    """One direction of the top layer in reading order, all [tokens, units]: the factor of the state that each step
    keeps, the value that it writes, the state, the outputs, the factor from the state to the output, and the head's
    weights of the explained label for each output."""

    kept: Array
    written: Array
    state: Array
    outputs: Array
    counted: Array
    weight: Array


def traced(subject: Subject, case: Case) -> list[tuple[Direction, Traced]]:
    manifest, engine = subject.manifest, subject.engine
    gates = engine.trace([case.row]).gates(0)
    top = manifest.layers - 1
    whole = np.hstack([gates[top, direction, "hidden"] for direction in manifest.directions]).astype(np.float64)
    pooling = _pooling(subject, whole, case) * engine.head_weight[case.label]
    found: list[tuple[Direction, Traced]] = []
    halves = np.hsplit(pooling, len(manifest.directions))
    for direction, weight in zip(manifest.directions, halves, strict=True):
        order = slice(None, None, -1) if direction == "backward" else slice(None)
        g = {
            name: rows[order].astype(np.float64)
            for (layer, side, name), rows in gates.items()
            if (layer, side) == (top, direction)
        }
        hidden = g["hidden"]
        if "cell" in g:
            state, kept, written = g["cell"], g["forget"], g["input"] * g["candidate"]
            counted = g["output"] * np.divide(np.tanh(state), state, out=np.ones_like(state), where=state != 0)
        else:
            kept = 1 - g["update"] if "update" in g else g["forget"]
            state, written, counted = hidden, g["update" if "update" in g else "input"] * g["candidate"], 1 + 0 * hidden
        found.append((direction, Traced(kept, written, state, hidden, counted, weight[order])))
    return found


def _pooling(subject: Subject, states: Array, case: Case) -> Array:
    """How the head weighs each state [tokens, units of all directions]; attention's weights count as given."""
    weights, units = np.zeros(states.shape), subject.manifest.hidden
    match subject.manifest.head:
        case "tagger":
            weights[case.explained] = 1
        case "mean":
            weights[:] = 1 / len(states)
        case "max":
            np.put_along_axis(weights, states.argmax(axis=0)[None], 1.0, axis=0)
        case "attention":
            assert subject.engine.head_query is not None
            weights[:] = softmax(states @ subject.engine.head_query)[:, None]
        case "last":
            weights[-1, :units] = 1
            weights[0, units:] = 1
    return weights


def _in_order(parts: list[tuple[Direction, Array]]) -> Array:
    """Shares of the tokens [tokens], from those of each direction in its reading order."""
    turned = [shares[::-1] if direction == "backward" else shares for direction, shares in parts]
    found: Array = np.sum(turned, axis=0)
    return found


def _later(counted: Array, kept: Array) -> Array:
    """The weight of the value that step k leaves in the state: A_k = counted_k + kept_{k+1} * A_{k+1}, [tokens,
    units]."""
    found = counted.copy()
    for step in range(len(found) - 2, -1, -1):
        found[step] += kept[step + 1] * found[step + 1]
    return found


def _split(subject: Subject, case: Case) -> Array:
    """The split of `/gates`."""
    engine = subject.engine
    gates = engine.trace([case.row]).gates(0)
    words = word_shares(engine.network, case.row, gates, {})
    found = contributions(
        subject.manifest,
        engine.head_weight,
        engine.head_bias,
        gates,
        case.explained,
        engine.head_query,
        words=words,
    )
    assert found is not None
    shares: Array = found["tokens"][:, case.label]
    return shares


def _whole_steps(subject: Subject, case: Case) -> Array:
    """The change without a step, with every other gate held: the value that it wrote, less the part of the state that
    it erased."""
    parts = []
    for direction, t in traced(subject, case):
        before = np.vstack([np.zeros_like(t.state[:1]), t.state[:-1]])
        change = t.written - (1 - t.kept) * before
        parts.append((direction, (_later(t.counted * t.weight, t.kept) * change).sum(axis=1)))
    return _in_order(parts)


def _differences(subject: Subject, case: Case) -> Array:
    """The change of the squashed state at each step, weighted with later outputs (beta of Murdoch and Szlam 2017)."""
    parts = []
    for direction, t in traced(subject, case):
        squashed = np.tanh(t.state) if subject.manifest.cell in ("lstm", "peephole") else t.state
        change = np.diff(squashed, axis=0, prepend=0.0)
        output = np.divide(t.outputs, squashed, out=np.zeros_like(squashed), where=squashed != 0)
        later = np.cumsum((output * t.weight)[::-1], axis=0)[::-1]
        parts.append((direction, (later * change).sum(axis=1)))
    return _in_order(parts)


def _states(subject: Subject, case: Case) -> Array:
    """The logit less that of the head over the other tokens' states, which stay as they are."""
    manifest, engine, units = subject.manifest, subject.engine, subject.manifest.hidden
    trace, top, tokens = engine.trace([case.row]), manifest.layers - 1, len(case.row)
    states = [trace.gate((top, direction, "hidden"), 0) for direction in manifest.directions]
    whole: Single = np.hstack(states)
    weight, head = engine.head_weight[case.label].astype(np.float64), engine.network.logits
    full = head(whole)[case.label]
    if tokens == 1:
        return np.array([full - engine.head_bias[case.label]], np.float64)
    if manifest.head == "last":  # one reader ends a token earlier
        found = np.zeros(tokens)
        found[-1] += weight[:units] @ (whole[-1, :units] - whole[-2, :units])
        found[0] += weight[units:] @ (whole[0, units:] - whole[1, units:])
        return found
    others = (head(np.delete(whole, token, axis=0))[case.label] for token in range(tokens))
    return np.array([full - other for other in others], np.float64)


# By running the model again


def _leave_one_out(subject: Subject, case: Case) -> Array:
    """The logit less that of the text without the token, for each token."""
    full = subject.logits(case.row)
    found = np.zeros(len(case.row))
    if case.explained is None and len(case.row) == 1:
        return np.array([full[case.label] - subject.engine.head_bias[case.label]], np.float64)
    tokens = [token for token in range(len(case.row)) if token != case.explained]
    for start in range(0, len(tokens), _BATCH):
        part = tokens[start : start + _BATCH]
        logits = subject.engine.predict([np.delete(case.row, token, axis=0) for token in part])
        for token, row in zip(part, logits.astype(np.float64), strict=True):
            place = case.explained
            if place is None:
                found[token] = full[case.label] - row[case.label]
            else:
                found[token] = full[place, case.label] - row[place - (token < place), case.label]
    return found


_BATCH = 32


# With a backward pass


def answer(subject: Subject, case: Case, inputs: Tensor) -> Tensor:
    """The logit that is explained, for embedded inputs [rows, tokens, numbers]: [rows]."""
    network, lengths = subject.network, torch.full((len(inputs),), inputs.shape[1])
    passage = Passage()
    states = network.widen(inputs, lengths)
    for number, layer in enumerate(network.layers):
        states = layer(states, lengths, passage, number)
    architecture = network.architecture
    pooled, _ = pool(architecture.head, states, lengths, architecture.hidden, network.query)
    logits: Tensor = network.head(pooled)
    return logits[:, case.label] if case.explained is None else logits[:, case.explained, case.label]


def gradients(subject: Subject, case: Case, inputs: Tensor) -> Tensor:
    """The explained logit's derivatives by embedded inputs [rows, tokens, numbers], of the same shape."""
    inputs = inputs.detach().requires_grad_(True)
    found: Tensor = torch.autograd.grad(answer(subject, case, inputs).sum(), inputs)[0]
    return found


def _embedded(subject: Subject, case: Case) -> Tensor:
    with torch.no_grad():
        return subject.network.embed(torch.tensor(case.row)[None])


def _gradient_x_input(subject: Subject, case: Case) -> Array:
    inputs = _embedded(subject, case)
    return _numbers((gradients(subject, case, inputs) * inputs)[0].sum(-1))


def _integrated_gradients(subject: Subject, case: Case) -> Array:
    """From inputs of zeros, by the midpoint rule, all points as one batch."""
    inputs = _embedded(subject, case)
    points = (torch.arange(STEPS) + 0.5) / STEPS
    slopes = gradients(subject, case, inputs * points[:, None, None])
    return _numbers((slopes.mean(0) * inputs[0]).sum(-1))


def _numbers(values: Tensor) -> Array:
    found: Array = values.detach().numpy().astype(np.float64)
    return found


def _relevance(subject: Subject, case: Case) -> Array:
    """Layer-wise relevance propagation for the LSTM (Arras et al. 2017): in a product the gate gets no share, and a sum
    is divided by the epsilon rule."""
    manifest, network = subject.manifest, subject.engine.network
    gates = subject.engine.trace([case.row]).gates(0)
    inputs: list[Array] = [network.embed(case.row).astype(np.float64)]
    for layer in range(manifest.layers):
        states = [gates[layer, direction, "hidden"] for direction in manifest.directions]
        inputs.append(np.hstack(states).astype(np.float64))
    relevance = _pooling(subject, inputs[-1], case) * inputs[-1] * subject.engine.head_weight[case.label]
    for layer in range(manifest.layers - 1, -1, -1):
        parts = network.layer(layer)
        arriving = np.zeros_like(inputs[layer])
        halves = np.hsplit(relevance, len(manifest.directions))
        for way, (direction, half) in enumerate(zip(manifest.directions, halves, strict=True)):
            order = slice(None, None, -1) if direction == "backward" else slice(None)
            g = {
                name: rows[order].astype(np.float64)
                for (at, side, name), rows in gates.items()
                if (at, side) == (layer, direction)
            }
            w = parts.w["candidate"][way].astype(np.float64)
            rows = slice(-manifest.hidden, None)  # ONNX stacks the candidate last
            r = parts.r[way, rows].astype(np.float64)
            bias = parts.bias["candidate"][way].astype(np.float64)
            arriving[order] += _relevance_of_steps(g, w, r, bias, inputs[layer][order], half[order])
        relevance = arriving
    found: Array = relevance.sum(axis=1)
    return found


def _relevance_of_steps(
    gates: Mapping[str, Array], w: Array, r: Array, bias: Array, inputs: Array, outputs: Array
) -> Array:
    """Relevance of inputs [tokens, numbers] from that of outputs [tokens, units], one direction in reading order."""
    found = np.zeros_like(inputs)
    of_state = np.zeros(outputs.shape[1])
    of_hidden = np.zeros(outputs.shape[1])
    zero = np.zeros(outputs.shape[1])
    for step in range(len(outputs) - 1, -1, -1):
        state = gates["cell"][step]
        total = of_state + of_hidden + outputs[step]  # in a product the gate gets no share
        shares = total / _stabilised(state)
        before = gates["cell"][step - 1] if step else zero
        of_state = gates["forget"][step] * before * shares
        of_candidate = gates["input"][step] * gates["candidate"][step] * shares
        hidden = gates["hidden"][step - 1] if step else zero
        ratio = of_candidate / _stabilised(w @ inputs[step] + r @ hidden + bias)
        found[step] = inputs[step] * (ratio @ w)
        of_hidden = hidden * (ratio @ r)
    return found


def _stabilised(sums: Array) -> Array:
    return sums + np.where(sums >= 0, EPSILON, -EPSILON)


def _random(subject: Subject, case: Case) -> Array:
    """Noise, the same for the same input: the baseline of every method."""
    return np.random.default_rng([len(case.row), *case.row[:8, 0].tolist()]).normal(size=len(case.row))


# The table


def _any(manifest: Manifest) -> str | None:
    return None


def _differentiable(manifest: Manifest) -> str | None:
    return "torch has no network of integers" if manifest.precision == "int8" else None


def _lstm(manifest: Manifest) -> str | None:
    if manifest.form == "full":
        return "the rules of Arras et al. have no candidate that sees the cell"
    return None if manifest.cell in ("lstm", "peephole") else "the rules of Arras et al. are for the LSTM"


METHODS: Mapping[str, Method] = {
    "split": Method("trace", _split, _additive),
    "whole-steps": Method("trace", _whole_steps, _additive),
    "state-differences": Method("trace", _differences, _additive),
    "states": Method("trace", _states, lambda manifest: _NO_STATES if manifest.head == "tagger" else None),
    "leave-one-out": Method("runs", _leave_one_out, _any),
    "gradient-x-input": Method("gradients", _gradient_x_input, _differentiable),
    "integrated-gradients": Method("gradients", _integrated_gradients, _differentiable),
    "lrp": Method("gradients", _relevance, _lstm),
    "random": Method("nothing", _random, _any),
}
"""Every method by its name. LRP passes relevance back through the weights: it counts as a backward pass."""
_NO_STATES = "a tagger's label depends on one state alone"


def chosen(manifest: Manifest, names: Sequence[str] | None) -> tuple[dict[str, Method], dict[str, str]]:
    """The methods to use, and of the others, if they were not named, why they cannot explain the model.

    Raises `KeyError` for a name that no method has, `BundleError` for a method that was named and cannot.
    """
    reasons = {name: why for name, method in METHODS.items() if (why := method.why_not(manifest))}
    for name in names or ():
        if name in reasons:
            raise BundleError(f"{name} cannot explain this model: {reasons[name]}")
    wanted = names or [name for name in METHODS if name not in reasons]
    return {name: METHODS[name] for name in wanted}, {} if names else reasons
