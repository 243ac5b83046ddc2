"""The benchmark: its plain variants compute what the package computes, and its tables say what was measured."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers import ROOT, SMALL
from three_rows import make_batch, tiny_llama

from unlearn.methods.npo import NPO
from unlearn.models.policy import Policy
from unlearn.models.projection import projection_at
from unlearn.score.batching import map_batches
from unlearn.training.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a module of scripts/ by name."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "off", [(), ("table",), ("one_forward",), ("projection",), ("table", "one_forward", "projection")]
)
def test_a_plain_loss_is_the_loss(scripts: Any, off: tuple[str, ...]) -> None:
    """Loss and gradient, with a reference model that differs from the current one."""
    plain = scripts("bench_train").Plain(off=frozenset(off))
    batch, reference = make_batch(), Policy(tiny_llama(1)).requires_grad_(False)
    nll = reference(batch)["forget"].sums
    with_table = {**batch.segments, "forget": dataclasses.replace(batch.segments["forget"], reference_nll=nll)}
    tabled = dataclasses.replace(batch, segments=with_table)
    results = []
    for method, given, model in (
        (NPO(), tabled, None),
        (plain, *((batch, reference) if "table" in off else (tabled, None))),
    ):
        policy = Policy(tiny_llama(0))
        loss = method.loss(policy, given, model)
        loss.total.backward()
        results.append((loss.total.item(), [weight.grad for weight in policy.parameters()]))
    (expected, gradients), (value, others) = results
    assert value == pytest.approx(expected, rel=1e-5)
    for mine, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_shuffling_a_plan_keeps_its_rows_and_sizes(scripts: Any) -> None:
    plan = Plan(
        [], [{"forget": [0, 1, 2], "retain": [9]}, {"forget": [3], "retain": [8, 7]}, {"forget": [1], "retain": []}]
    )
    other = scripts("bench_train").shuffled(plan)
    for name in ("forget", "retain"):
        assert sorted(r for s in other.steps for r in s[name]) == sorted(r for s in plan.steps for r in s[name])
        assert [len(s[name]) for s in other.steps] == [len(s[name]) for s in plan.steps]


def test_projecting_everything_gives_the_same_logits(scripts: Any) -> None:
    model, ids, index = tiny_llama(0), make_batch().input_ids, torch.tensor([1, 5, 20])
    with projection_at(model, index):
        expected = model(input_ids=ids).logits
    with scripts("bench_score").project_everything(model, index):
        torch.testing.assert_close(model(input_ids=ids).logits, expected)


def test_batches_in_file_order_keep_to_the_limits(scripts: Any) -> None:
    seen: list[list[int]] = []

    def double(batch: list[int]) -> list[int]:
        seen.append(batch)
        return [2 * row for row in batch]

    rows = [3, 1, 1, 7, 2, 20, 1]
    answers = scripts("bench_score").in_file_order(double, rows, length=int, token_budget=9)
    assert answers == map_batches(double, rows, length=int, token_budget=9) == [2 * row for row in rows]
    assert seen[:5] == [[3, 1, 1], [7], [2], [20], [1]]


def test_the_lower_half(scripts: Any) -> None:
    model = tiny_llama(0)
    names = {id(weight): name for name, weight in model.named_parameters()}
    lower = {names[id(weight)] for weight in scripts("bench_train").lower_weights(model)}
    assert lower == {name for name in names.values() if "embed" in name or ".layers.0." in name}


def test_a_process_gives_its_result_and_its_peak(scripts: Any) -> None:
    process = scripts("benchmark").process
    (wall, cpu), peak, result = process(
        ["-c", "b = bytearray(300 * 2**20); print('noise'); print('{\"a\": 1}')"], threads=1
    )
    assert result == {"a": 1}
    assert peak > 300
    assert wall > 0
    assert cpu > 0
    with pytest.raises(SystemExit, match="status 3"):
        process(["-c", "raise SystemExit(3)"], threads=1)


def test_tables_give_medians_and_ratios_within_rounds(scripts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = scripts("benchmark")
    monkeypatch.setattr(benchmark, "LEVERS", (benchmark.Lever("a lever", "steps", "train", "train, plain", "train"),))
    runs = {"train": benchmark.Runs(), "train, plain": benchmark.Runs()}
    for on, off in ((1.0, 2.0), (2.0, 6.0), (4.0, 4.8)):
        runs["train"].add({"steps": (1.0, on)}, 100.0, {"numbers": [1.0]})
        runs["train, plain"].add({"steps": (1.0, off)}, 150.0, {"numbers": [1.0]})
    row = benchmark.levers(runs, steps=10)[-1]
    assert row == "| a lever | 200 ms | 480 ms | **2.00** (1.20 to 3.00) | 1.00 | 100 | 150 | **1.50** |"
    benchmark.check(runs)
    runs["train, plain"].result = {"numbers": [1.1]}
    with pytest.raises(SystemExit, match="different numbers"):
        benchmark.check(runs)


def test_the_page_keeps_what_stands_around_the_table(scripts: Any, tmp_path: Path) -> None:
    put, page = scripts("benchmark").put, tmp_path / "page.md"
    page.write_text("Before\n<!-- measured: b -->\nold\n<!-- end: b -->\nAfter\n")
    for text in ("first", "second"):
        put(page, "b", [text])
        put(page, "a", ["new"])
    lines = [line for line in page.read_text().splitlines() if line]
    assert lines[:5] == ["Before", "<!-- measured: b -->", "second", "<!-- end: b -->", "After"]
    assert lines[5:] == ["<!-- measured: a -->", "new", "<!-- end: a -->"]


@pytest.mark.command
def test_the_whole_benchmark_on_a_very_small_model(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All variants, the jobs in this process; only the command line gets processes of its own."""
    benchmark = scripts("benchmark")
    real = benchmark.process
    jobs = {f"bench_{part}": "measure" for part in ("train", "score", "localize", "tracing")} | {
        "bench_setup": "prepare"
    }

    def process(arguments: list[str], threads: int, status: int = 0) -> Any:
        if (script := Path(arguments[0]).stem) not in jobs:
            return real(arguments, threads, status)
        result = getattr(scripts(script), jobs[script])(**json.loads(arguments[1]))
        return (1.0, 1.0), 1.0, json.loads(json.dumps(result))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(benchmark, "process", process)
    monkeypatch.setattr(benchmark, "STARTUP", dict(list(benchmark.STARTUP.items())[:2]))
    overrides = [*(o for o in SMALL if not o.startswith("train.")), "control_model=none", "model.finetune.epochs=1"]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--steps", "2", "--repeats", "1", "--out", "page.md", *overrides])
    benchmark.main()
    page = (tmp_path / "page.md").read_text()
    for lever in benchmark.LEVERS:
        (row,) = (line for line in page.splitlines() if line.startswith(f"| {lever.text} |"))
        assert all(float(ratio) > 0 for ratio in re.findall(r"\*\*([\d.]+)\*\*", row)), row
    assert benchmark.FIRST_STEP in page
    assert "of which likelihoods" in page
