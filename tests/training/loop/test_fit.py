"""The training loop: it learns, it repeats itself, it stops when it should, and it keeps the best epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from service.model.bundle import Task
from tests.bundles import KINDS, Kind, architecture
from training.data.batches import Batch, Sample
from training.loop.fit import Mark, Outcome, Progress, Recipe, _loss, fit, refusal, seed_everything
from training.loop.logs import Record
from training.nets.networks import Dropouts, Network

CPU = torch.device("cpu")
FAST = Recipe(epochs=4, patience=4, batch_rows=8, batch_tokens=400, learning_rate=0.01)
GOOD, BAD = 16, 19  # rows of the word table


def texts(count: int = 48) -> list[Sample]:
    """A text is of class 1 when it holds one word, of class 0 when it holds another."""
    generator = np.random.default_rng(4)
    samples = []
    for number in range(count):
        rows = generator.integers(1, 15, (int(generator.integers(2, 12)), 1)).astype(np.int32)
        rows[generator.integers(len(rows))] = GOOD if number % 2 else BAD
        samples.append(Sample(rows, np.array([number % 2], np.int64)))
    return samples


def sentences(count: int = 48) -> list[Sample]:
    """Word 9 has tag 3, every other tag 0."""
    generator = np.random.default_rng(4)
    samples = []
    for _ in range(count):
        rows = generator.integers(0, 8, (int(generator.integers(2, 12)), 4)).astype(np.int32)
        rows[:, 1:] = 0
        rows[generator.random(len(rows)) < 0.3, 0] = 9
        samples.append(Sample(rows, np.where(rows[:, 0] == 9, 3, 0).astype(np.int64)))
    return samples


def trained(
    recipe: Recipe = FAST,
    task: Task = "sentiment",
    cell: Kind = "lstm",
    score: Callable[[Network], Mark | float] = lambda _: 0.0,
    report: Callable[[Progress], None] = lambda _: None,
    dropout: float = 0.2,
) -> tuple[Network, Outcome]:
    """A network made and trained as a job does it."""
    seed_everything(recipe.seed)
    net = Network(architecture(task=task, cell=cell, hidden=8), Dropouts(dropout, dropout, words=0.05))
    samples = texts() if task == "sentiment" else sentences()
    return net, fit(net, samples, recipe, score, report, CPU)


def weights(net: Network) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def correct(net: Network, samples: list[Sample]) -> float:
    """The share of right labels."""
    net.eval()
    right = total = 0
    for sample in samples:
        with torch.inference_mode():
            logits = net(torch.from_numpy(sample.rows)[None], torch.tensor([len(sample.rows)]))
        guess = logits.argmax(-1).flatten().numpy()
        right, total = right + int((guess == sample.targets).sum()), total + len(sample.targets)
    return right / total


def scores(*values: float) -> Callable[[Network], float]:
    found = iter(values)
    return lambda _: next(found)


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("task", ["sentiment", "ner"])
def test_it_learns(task: Task, cell: Kind) -> None:
    samples = texts() if task == "sentiment" else sentences()
    recipe = replace(FAST, epochs=6, patience=6, learning_rate=0.02)
    net, outcome = trained(recipe, task, cell, score=lambda net: correct(net, samples), dropout=0.0)
    assert outcome.best is not None
    assert outcome.best > 0.97
    assert correct(net, samples) == outcome.best


@pytest.mark.parametrize("task", ["sentiment", "ner"])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(task: Task) -> None:
    recipe = replace(FAST, epochs=2, window=5, label_smoothing=0.1)
    one, two = (weights(trained(recipe, task)[0]) for _ in range(2))
    assert same(one, two)
    assert not same(one, weights(trained(replace(recipe, seed=2), task)[0]))


def test_the_best_epoch_is_kept() -> None:
    seen: list[dict[str, torch.Tensor]] = []
    marks = iter((0.2, 0.9, 0.9, 0.4))

    def score(net: Network) -> float:
        seen.append(weights(net))
        return next(marks)

    net, outcome = trained(score=score)
    assert outcome == Outcome(epochs=4, best=0.9, interrupted=False)
    assert same(weights(net), seen[1]), "the first of equals"
    assert not same(seen[1], seen[2])
    assert not net.training


def marks(*values: tuple[float, float]) -> Callable[[Network], Mark]:
    found = iter(values)
    return lambda _: Mark(*next(found))


def test_of_equal_scores_the_lowest_loss_is_kept() -> None:
    seen: list[dict[str, torch.Tensor]] = []
    given = marks((0.5, 0.9), (0.5, 0.7), (0.5, 0.8), (0.4, 0.1))

    def score(net: Network) -> Mark:
        seen.append(weights(net))
        return given(net)

    net, outcome = trained(score=score)
    assert (outcome.best, outcome.epochs) == (0.5, 4)
    assert same(weights(net), seen[1])


@pytest.mark.parametrize(
    ("scored", "floor", "epochs"),
    [
        ((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), 0.0, 6),
        ((0.0, 0.0, 0.0, 0.3, 0.3, 0.3), 0.0, 6),
        ((0.0, 0.0, 0.3, 0.2, 0.1, 0.5), 0.0, 5),
        ((0.4, 0.5, 0.5, 0.5, 0.5, 0.6), 0.5, 6),
        ((0.6, 0.5, 0.5, 0.5, 0.5, 0.6), 0.5, 3),
        ((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), -1.0, 3),
    ],
)
def test_patience_begins_with_the_first_score_above_guessing(
    scored: tuple[float, ...], floor: float, epochs: int
) -> None:
    seed_everything(1)
    net, recipe = Network(architecture(hidden=8)), replace(FAST, epochs=6, patience=2)
    outcome = fit(net, texts(), recipe, scores(*scored), lambda _: None, CPU, floor=floor)
    assert outcome.epochs == epochs
    assert outcome.best == max(scored[:epochs])


@pytest.mark.parametrize(
    ("examples", "rows", "epochs", "patience", "rate"),
    [
        (1, 8, 60, 20, 5e-3),
        (130, 8, 60, 20, 5e-3),
        (422, 8, 29, 9, 4.8679e-3),
        (2_048, 32, 24, 8, 2.2097e-3),
        (10_000, 32, 10, 3, 1e-3),
        (1_000_000, 32, 10, 3, 1e-3),
    ],
)
def test_what_is_left_out_depends_on_how_many_examples_there_are(
    examples: int, rows: int, epochs: int, patience: int, rate: float
) -> None:
    made = Recipe().suited(examples)
    assert (made.batch_rows, made.epochs, made.patience) == (rows, epochs, patience)
    assert made.learning_rate == pytest.approx(rate, rel=1e-3)
    assert made.suited(1) == made, "what is fixed stays"
    given = Recipe(epochs=7, patience=1, batch_rows=3, learning_rate=0.5)
    assert given.suited(examples) == given


@pytest.mark.parametrize(
    ("marks", "patience", "epochs"),
    [
        ((0.5, 0.4, 0.4, 0.4, 0.4), 3, 4),
        ((0.5, 0.4, 0.6, 0.5, 0.5, 0.9), 2, 5),
        ((0.5, 0.5, 0.9), 1, 2),
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6), 1, 6),
    ],
)
def test_it_stops_after_so_many_epochs_without_a_better_score(
    marks: tuple[float, ...], patience: int, epochs: int
) -> None:
    recipe = replace(FAST, epochs=len(marks), patience=patience)
    _, outcome = trained(recipe, score=scores(*marks))
    assert outcome.epochs == epochs
    assert outcome.best == max(marks[:epochs])
    assert not outcome.interrupted


def test_an_interrupt_keeps_the_best_epoch() -> None:
    seen: list[dict[str, torch.Tensor]] = []
    marks = iter((0.3, 0.8, 0.5))

    def score(net: Network) -> float:
        seen.append(weights(net))
        return next(marks)

    def report(progress: Progress) -> None:
        if (progress.epoch, progress.batch) == (4, 2):
            raise KeyboardInterrupt

    net, outcome = trained(score=score, report=report)
    assert outcome == Outcome(epochs=4, best=0.8, interrupted=True)
    assert same(weights(net), seen[1])
    assert not net.training


def test_an_interrupt_before_the_first_score_keeps_the_weights_as_they_are() -> None:
    last: list[Progress] = []

    def report(progress: Progress) -> None:
        last.append(progress)
        if progress.batch == 3:
            raise KeyboardInterrupt

    net, outcome = trained(report=report)
    assert outcome == Outcome(epochs=1, best=None, interrupted=True)
    assert len(last) == 3
    assert not net.training


def test_an_interrupt_while_scoring_keeps_the_epochs_before() -> None:
    def score(net: Network) -> float:
        if net_seen:
            raise KeyboardInterrupt
        net_seen.append(weights(net))
        return 0.5

    net_seen: list[dict[str, torch.Tensor]] = []
    net, outcome = trained(score=score)
    assert (outcome.best, outcome.interrupted) == (0.5, True)
    assert same(weights(net), net_seen[0])


def gradient_norm(clip: float) -> float:
    """The norm of the gradient that the last step took."""
    net, _ = trained(replace(FAST, epochs=1, clip=clip))
    norms = [parameter.grad.norm() for parameter in net.parameters() if parameter.grad is not None]
    return float(torch.stack(norms).norm())


def test_the_gradients_norm_is_clipped() -> None:
    free = gradient_norm(clip=1e9)
    assert free > 0.05
    assert gradient_norm(clip=0.01) == pytest.approx(0.01, rel=1e-3)


def test_values_are_clipped_before_the_norm() -> None:
    net, _ = trained(replace(FAST, epochs=1, clip_value=1e-3, clip=1e9))
    largest = max(float(each.grad.abs().max()) for each in net.parameters() if each.grad is not None)
    assert largest == pytest.approx(1e-3)


def test_every_step_is_logged_with_its_gradient_and_whether_it_was_clipped() -> None:
    reports: list[Progress] = []

    def logged(clip: float) -> list[Record]:
        seed_everything(1)
        records: list[Record] = []
        net, recipe = Network(architecture(hidden=8)), replace(FAST, epochs=2, clip=clip)
        fit(net, texts(), recipe, scores(0.5, 0.75), reports.append, CPU, log=records.append)
        return records

    norms = [record["gradient"] for record in logged(1e9) if "loss" in record]
    reports.clear()
    limit, recipe = float(np.median(norms)), FAST
    records = logged(limit)
    steps = [record for record in records if "loss" in record]
    assert [record["step"] for record in steps] == list(range(1, len(steps) + 1))
    assert all(record["clipped"] == (record["gradient"] > limit) for record in steps)
    assert 0 < sum(record["clipped"] for record in steps) < len(steps)
    assert steps[0]["rate"] == recipe.learning_rate
    assert 0 < steps[-1]["rate"] < 0.1 * recipe.learning_rate, "small at the end, but not for nothing"
    assert sum(record["tokens"] for record in steps) == 2 * sum(len(sample.rows) for sample in texts())
    epochs = [record for record in records if "score" in record]
    assert [(record["score"], record["best"]) for record in epochs] == [(0.5, 0.5), (0.75, 0.75)]
    half = steps[: len(steps) // 2]
    share = sum(record["clipped"] for record in half) / len(half)
    assert epochs[0]["clipped"] == next(each for each in reports if each.score is not None).clipped == share


@pytest.mark.parametrize(("task", "crf"), [("sentiment", False), ("ner", False), ("ner", True)])
def test_gradients_added_up_are_those_of_one_large_batch(task: Task, crf: bool) -> None:
    """Every target counts the same, however the batches are cut."""
    samples = [replace(each, rows=each.rows[:2], targets=each.targets[:2]) for each in (texts(8) + texts(8))]
    if task == "ner":
        samples = [
            replace(each, rows=each.rows[:width], targets=each.targets[:width])
            for each, width in zip(sentences(16), [2, 3] * 8, strict=True)
        ]
    found = []
    for rows, count in ((16, 1), (4, 8)):
        seed_everything(1)
        net = Network(architecture(task=task, hidden=6, crf=crf))
        recipe = replace(FAST, epochs=1, batch_rows=rows, accumulate=count, optimiser="sgd", learning_rate=0.1)
        steps: list[Record] = []
        fit(net, samples, recipe, lambda _: 0.0, lambda _: None, CPU, log=steps.append)
        assert len(steps) == 2
        found.append((weights(net), steps[0]["loss"]))
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)
    for name, tensor in found[0][0].items():
        torch.testing.assert_close(tensor, found[1][0][name], rtol=1e-4, atol=1e-6)


def test_what_is_reported() -> None:
    reports: list[Progress] = []
    trained(replace(FAST, epochs=2), score=scores(0.25, 0.75), report=reports.append)
    batches = [progress for progress in reports if progress.score is None]
    epochs = [progress for progress in reports if progress.score is not None]
    assert [progress.batch for progress in batches if progress.epoch == 1] == list(range(1, batches[0].batches + 1))
    assert all(np.isfinite(progress.loss) and progress.loss > 0 for progress in batches)
    found = [(progress.epoch, progress.score, progress.best) for progress in epochs]
    assert found == [(1, 0.25, 0.25), (2, 0.75, 0.75)]


def test_windows_cut_texts_but_never_sentences() -> None:
    lengths: list[int] = []

    def recording(task: Task) -> int:
        lengths.clear()
        seed_everything(1)
        net = Network(architecture(task=task))
        net.register_forward_pre_hook(lambda _, inputs: lengths.append(int(inputs[1].max())))
        samples = texts() if task == "sentiment" else sentences()
        fit(net, samples, replace(FAST, epochs=1, window=3), lambda _: 0.0, lambda _: None, CPU)
        return max(lengths)

    assert recording("sentiment") == 3
    assert recording("ner") > 3


@pytest.mark.parametrize(("share", "moved"), [(0.0, 0.0), (0.1, 0.1), (1.0, 1.0)])
def test_word_vectors_learn_at_their_share_of_the_rate(share: float, moved: float) -> None:
    # Adam's first step is the rate, whatever the gradient: one batch, one epoch.
    once = replace(FAST, epochs=1, batch_rows=48, batch_tokens=9999, schedule="constant", word_rate=share)
    made, _ = trained(once)
    fresh, _ = trained(replace(once, learning_rate=1e-12))
    steps = {name: (made.state_dict()[name] - start).abs().max() for name, start in fresh.state_dict().items()}
    assert float(steps["embeddings.word.weight"]) == pytest.approx(moved * FAST.learning_rate, rel=0.02)
    assert float(steps["head.weight"]) == pytest.approx(FAST.learning_rate, rel=0.02)


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_is_refused_where_the_cpu_has_none(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    reason = refusal("mixed", torch.device("cpu"))
    assert (reason is None) == supported
    assert supported or "leave out --precision mixed" in str(reason)
    assert refusal("full", torch.device("cpu")) is None
    assert refusal("mixed", torch.device("cuda")) is None


@pytest.mark.skipif(refusal("mixed", torch.device("cpu")) is not None, reason="this CPU has no bfloat16")
def test_bfloat16_learns_the_same_on_a_cpu() -> None:
    samples = texts()
    network, outcome = trained(replace(FAST, epochs=8, precision="mixed"), score=lambda net: correct(net, samples))
    assert outcome.best == 1.0
    assert all(weight.dtype == torch.float32 for weight in network.parameters())


def test_the_loss_of_a_teachers_logits_is_hintons() -> None:
    """Against the formula in float64: share · T² · KL(teacher ‖ student at T) + (1 − share) · the label's loss."""
    generator = torch.Generator().manual_seed(3)
    logits, soft = (torch.randn(3, 2, generator=generator) for _ in range(2))
    soft[2] = torch.nan  # no teacher was asked
    targets, recipe = torch.tensor([0, 1, 1]), Recipe(soft_share=0.6, temperature=3.0)
    batch = Batch(torch.zeros(3, 1, 1), torch.ones(3), targets, [0, 1, 2], soft)
    found = _loss(Network(architecture()), batch, logits, recipe)

    def softmax(values: np.ndarray, by: float) -> np.ndarray:
        return np.exp(values / by) / np.exp(values / by).sum()

    wanted = []
    for row in range(3):
        ours, theirs = logits[row].double().numpy(), soft[row].double().numpy()
        hard = -np.log(softmax(ours, 1.0)[targets[row]])
        if row == 2:
            wanted.append(hard)
            continue
        p, q = softmax(theirs, 3.0), softmax(ours, 3.0)
        wanted.append(0.6 * 9.0 * (p * np.log(p / q)).sum() + 0.4 * hard)
    assert float(found) == pytest.approx(np.mean(wanted), rel=1e-5)


def test_a_student_learns_from_logits_what_its_labels_hide() -> None:
    """Every label is the same; the teacher's logits tell the two words apart."""
    samples = texts()
    right = [replace(each, targets=each.targets.copy()) for each in samples]
    taught = [
        replace(
            each,
            targets=np.zeros(1, np.int64),
            soft=np.array([1.0 - 2 * each.targets[0], 2 * each.targets[0] - 1.0], np.float32) * 3,
        )
        for each in samples
    ]
    seed_everything(1)
    net = Network(architecture(hidden=8))
    recipe = replace(FAST, epochs=6, patience=6, learning_rate=0.02, soft_share=1.0)
    fit(net, taught, recipe, lambda net: correct(net, right), lambda _: None, CPU)
    assert correct(net, right) > 0.95
