"""The real command, end to end, on a very small experiment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from helpers import SMALL, start, unlearn
from safetensors.torch import load_file

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.command

TABLES = ("tokens", "generations")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run in outputs/first, and the cache that it filled."""
    folder = tmp_path_factory.mktemp("workshop")
    done = unlearn("run", *SMALL, "output=outputs/first", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def same_result(one: Path, other: Path) -> None:
    """Final weights bit for bit, and the same tables."""
    first, second = (load_file(folder / "unlearned" / "model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.equal(second[name]), name
    for table in TABLES:
        a, b = (pd.read_parquet(folder / "scores" / "unlearned" / f"{table}.parquet") for folder in (one, other))
        pd.testing.assert_frame_equal(a, b)
    assert (one / "metrics.json").read_text() == (other / "metrics.json").read_text()


def test_a_run_leaves_what_it_promises(workshop: Path) -> None:
    run = workshop / "outputs" / "first"
    for name in ("config.yaml", "run.json", "metrics.json", "report.html", "report.md", "unlearned/model.safetensors"):
        assert (run / name).is_file(), name
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics) == {"original", "control", "unlearned"}
    quality = {r["name"]: r for r in metrics["control"]}["forget_quality"]
    assert quality["value"] == 1.0  # the control model against itself
    assert not list(run.rglob("*.partial"))
    assert not list(run.rglob("*.tmp"))
    assert not list(run.rglob("checkpoint*"))


def test_the_same_command_finds_everything_done(workshop: Path) -> None:
    run = workshop / "outputs" / "first"
    before = (run / "unlearned" / "model.safetensors").stat().st_mtime_ns
    again = unlearn("run", *SMALL, "output=outputs/first", cwd=workshop)
    assert again.returncode == 0, again.stderr
    assert (run / "unlearned" / "model.safetensors").stat().st_mtime_ns == before


def test_another_method_retrains_nothing(workshop: Path) -> None:
    done = unlearn("run", *SMALL, "method=grad_diff", "output=outputs/second", cwd=workshop)
    assert done.returncode == 0, done.stderr
    stages = {
        s["name"]: s["cached"] for s in json.loads((workshop / "outputs" / "second" / "run.json").read_text())["stages"]
    }
    assert stages == {
        "original": True,
        "scores-original": True,
        "control": True,
        "scores-control": True,
        "unlearned": False,
        "scores/unlearned": False,
    }


MOMENTS = {
    "at the start": "killed",
    "training the original model": "outputs/.cache/original-*.partial/checkpoint.safetensors",
    "after the original model": "outputs/.cache/original-*/manifest.json",
    "unlearning": "killed/unlearned.partial/checkpoint.safetensors",
    "after unlearning": "killed/unlearned/manifest.json",
    "scoring": "killed/scores/unlearned*",
}


def test_killed_at_any_point_it_ends_the_same(workshop: Path, tmp_path: Path) -> None:
    """SIGKILL as soon as a stage leaves its first trace, and the same command again, until it gets through."""
    arguments = ["run", *SMALL, "output=killed", "train.checkpoint_seconds=0", "model.finetune.checkpoint_seconds=0"]
    for moment, trace in MOMENTS.items():
        process = start(*arguments, cwd=tmp_path)
        while process.poll() is None and not list(tmp_path.glob(trace)):
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert process.returncode == -signal.SIGKILL, f"{moment}: {process.returncode}"
    done = unlearn(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    same_result(workshop / "outputs" / "first", tmp_path / "killed")


def test_two_processes_give_the_same_training(workshop: Path, tmp_path: Path) -> None:
    """`accelerate launch` with two CPU processes: the gradient of a step does not depend on how it is shared out."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines",
    "1",
                "--mixed_precision", "no", "--dynamo_backend", "no"]  # fmt: skip
    cache = tmp_path / "cache"
    shutil.copytree(workshop / "outputs" / ".cache", cache)
    done = unlearn("run", *SMALL, "output=two", f"cache={cache}", cwd=tmp_path, launcher=launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (
        json.loads((f / "unlearned" / "history.json").read_text())
        for f in (workshop / "outputs" / "first", tmp_path / "two")
    )
    assert [row["step"] for row in two] == list(range(1, 13))
    for a, b in zip(one, two, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=2e-3)
    assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=2e-2)


def test_concurrent_runs_share_the_cache(tmp_path: Path) -> None:
    processes = [start("run", *SMALL, f"method={m}", f"output={m}", cwd=tmp_path) for m in ("npo", "grad_ascent")]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    stages = [json.loads((tmp_path / m / "run.json").read_text())["stages"] for m in ("npo", "grad_ascent")]
    assert sum(s["name"] == "original" and not s["cached"] for run in stages for s in run) == 1


def test_ctrl_c_ends_with_130_and_a_line(tmp_path: Path) -> None:
    process = start("run", *SMALL, "model.finetune.epochs=500", "model.finetune.checkpoint_seconds=0", cwd=tmp_path)
    while process.poll() is None and not list(
        tmp_path.glob("outputs/.cache/original-*.partial/checkpoint.safetensors")
    ):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors


def test_load_gives_the_unlearned_model(workshop: Path) -> None:
    import unlearn as package

    model, tokenizer = package.load(workshop / "outputs" / "first")
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)


def test_lora_goes_with_any_method(workshop: Path) -> None:
    done = unlearn(
        "run", *SMALL, "lora=all_linear", "method=simnpo", "train.lr=0.01", "output=outputs/lora", cwd=workshop
    )
    assert done.returncode == 0, done.stderr
    run = workshop / "outputs" / "lora" / "unlearned"
    assert (run / "adapter" / "adapter_model.safetensors").is_file()
    target = next((workshop / "outputs" / ".cache").glob("original-*")) / "model.safetensors"
    changed = {name for name, t in load_file(run / "model.safetensors").items() if not t.equal(load_file(target)[name])}
    assert changed
    assert all("proj" in name for name in changed)


def test_adapters_follow_the_seed(workshop: Path) -> None:
    """Fresh adapters are drawn from the run's seed: the same command gives the same weights in another process."""
    arguments = [*SMALL, "lora=all_linear", "method=simnpo", "train.lr=0.01", "stages=[prepare,unlearn]"]
    for output in ("lora-a", "lora-b"):
        assert unlearn("run", *arguments, f"output=outputs/{output}", cwd=workshop).returncode == 0
    one, two = (load_file(workshop / "outputs" / o / "unlearned" / "model.safetensors") for o in ("lora-a", "lora-b"))
    assert all(tensor.equal(two[name]) for name, tensor in one.items())


def test_a_sweep_runs_every_combination_and_reports_the_bad_one(workshop: Path) -> None:
    done = unlearn("run", "-m", *SMALL, "method=npo", "method.beta=-1,0.1", "stages=[prepare,unlearn]", cwd=workshop)
    assert done.returncode == 2, done.stderr
    assert "'method.beta' is -1" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(list((workshop / "outputs").glob("authors-tiny-npo-*"))) == 1


def test_compare_and_report_need_no_model(workshop: Path) -> None:
    shutil.rmtree(workshop / "outputs" / "first" / "unlearned.hidden", ignore_errors=True)
    assert unlearn("report", "outputs/first", cwd=workshop).returncode == 0
    done = unlearn("compare", "outputs/first", "outputs/second", "--out", "table", cwd=workshop)
    assert done.returncode == 0, done.stderr
    assert (workshop / "table" / "compare.html").is_file()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("unlearn c", "compare"),
        ("unlearn run method=n", "method=npo"),
        ("unlearn run dataset=tofu dataset.sp", "dataset.split="),
    ],
)
def test_tab_completion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, offered: str) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert unlearn("-sc", "query=bash", cwd=tmp_path).stdout.split() == [offered]
