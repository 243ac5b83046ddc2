"""The audit of metrics: its models, its verdicts, the real command and its cache, bad input."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from helpers import SMALL, unlearn
from hydra import compose, initialize_config_dir

from unlearn.data.authors import Authors
from unlearn.metrics.metric_quality import Scored, verdicts_on
from unlearn.runtime.components import build, conf_dir
from unlearn.stages.audit_pools import variants
from unlearn.stages.prepare import cache, model_key

if TYPE_CHECKING:
    from pathlib import Path

    from unlearn.data.task import Role, Task
    from unlearn.stages.experiment import Experiment

TASK = Authors(authors=20, facts_per_author=3, world_facts=6).load(0)  # two authors to forget
PARTS: tuple[Role, ...] = ("original", "control")
TINY = [
    *(argument for argument in SMALL if not argument.startswith(("tracker", "attack"))),
    "evaluate=default",
    "~audit.methods.simnpo",
    "~audit.methods.idk",
    "audit.seeds=[1]",
    "output=found",
]


# --- models with and without the knowledge


def forgotten(task: Task) -> list[Any]:
    return [probe for probe_set in task.probes if probe_set.aim == "forget" for probe in probe_set.probes]


def test_models_with_the_knowledge_are_told_the_answers_in_three_ways() -> None:
    made = variants(TASK, seed=0)
    assert made["full"] == TASK.examples("forget")
    assert [example.answers for example in made["paraphrased"]] == [(p.paraphrased_answer,) for p in forgotten(TASK)]
    assert not {e.questions[0] for e in made["paraphrased"]} & {q for e in TASK.examples("forget") for q in e.questions}
    assert len(made["biography"]) == 2  # a text for each author
    for probe in forgotten(TASK):
        (text,) = (e.answers[0] for e in made["biography"] if probe.cluster in e.answers[0])
        assert probe.answer in text
    assert all(example.questions == ("",) for example in made["biography"])


def test_models_without_the_knowledge_are_told_none_of_it() -> None:
    made = variants(TASK, seed=0)
    assert made["control"] == ()
    for example, probe in zip(made["perturbed"], forgotten(TASK), strict=True):
        assert example.questions == (probe.question,)
        assert example.answers[0] in probe.perturbed_answers
        assert probe.value not in example.answers[0]
    others = " ".join(example.answers[0] for example in made["others"])
    assert others
    assert not any(probe.cluster in others for probe in forgotten(TASK))


def test_models_that_a_task_has_no_data_for_are_left_out() -> None:
    bare = tuple(
        replace(p, paraphrased_answer=None, paraphrased_question=None, perturbed_answers=(), cluster="")
        for p in forgotten(TASK)
    )
    sets = tuple(replace(s, probes=bare) if s.aim == "forget" else s for s in TASK.probes)
    made = variants(replace(TASK, probes=sets), seed=0)
    assert list(made) == ["full", "biography", "control"]
    assert len(made["biography"]) == len(bare)  # whose subject is not known: each for itself
    half = tuple(
        replace(s, probes=(bare[0], *forgotten(TASK)[1:])) if s.aim == "forget" else s for s in TASK.probes
    )  # a part of the knowledge is neither with nor without
    assert not {"paraphrased", "perturbed"} & set(variants(replace(TASK, probes=half), seed=0))


# --- verdicts


def model(pool: str, name: str, value: float, utility: float = 1.0, seed: int = 1) -> Scored:
    return Scored(
        pool, name, seed, {"known": value, "gone": 1 - value, "flat": 0.3, "noise": 0.5 - value % 0.2}, utility
    )


SCORED = [
    model("knowing", "full", 0.9),
    model("knowing", "biography", 0.7),
    model("ignorant", "control", 0.2),
    model("ignorant", "others", 0.1),
    model("control relearned", "control", 0.4),
    model("unlearned", "npo", 0.1, 0.85),
    model("relearned", "npo", 0.5),
    model("quantised", "npo", 0.2),
    model("unlearned", "kl", 0.1, 0.75),
    model("relearned", "kl", 0.1),
    model("quantised", "kl", 0.1),
]
ORIGINAL, CONTROL = model("reference", "original", 0.9, seed=0), model("reference", "control", 0.2, seed=0)


def test_the_verdict_on_a_metric() -> None:
    """Only npo keeps 80% of the original's utility; its metric rises by 0.4 where the control model's rises by 0.2."""
    verdicts = {verdict.metric: verdict for verdict in verdicts_on(SCORED, ORIGINAL, CONTROL, 0.8)}
    known = verdicts["known"].quality
    assert (known.faithfulness, known.n) == (1, 1)
    assert known.relearning == pytest.approx(0.5)
    assert known.quantization == pytest.approx(0.5)
    assert known.robustness == pytest.approx(0.5)
    assert known.overall == pytest.approx(2 / 3)
    assert known.threshold == pytest.approx(0.45)


def test_a_metric_of_which_less_means_knowledge_is_turned() -> None:
    verdicts = {verdict.metric: verdict for verdict in verdicts_on(SCORED, ORIGINAL, CONTROL, 0.8)}
    assert verdicts["gone"].reading == "1 - m"
    assert verdicts["known"].reading == "m"
    assert verdicts["gone"].quality.overall == pytest.approx(verdicts["known"].quality.overall)


def test_a_metric_that_says_the_same_of_original_and_control_is_not_audited() -> None:
    verdict = verdicts_on(SCORED, ORIGINAL, CONTROL, 0.8)[-1]
    assert (verdict.metric, verdict.reading) == ("flat", "none")
    assert math.isnan(verdict.quality.faithfulness)
    assert verdict.quality.n == 0


def test_a_lower_demand_on_utility_lets_more_models_count() -> None:
    verdicts = {verdict.metric: verdict for verdict in verdicts_on(SCORED, ORIGINAL, CONTROL, 0.7)}
    assert verdicts["known"].quality.n == 2
    assert verdicts["known"].quality.relearning == pytest.approx((0.5 + 1) / 2)


# --- the real command


def run(folder: Path, *arguments: str) -> str:
    done = unlearn("audit", *TINY, *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def stages(folder: Path) -> dict[str, int]:
    manifests = (folder / "outputs" / ".cache").glob("*/manifest.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in manifests}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with an audit of seconds, and what it printed."""
    folder = tmp_path_factory.mktemp("workshop")
    return folder, run(folder)


@pytest.mark.command
def test_the_table_is_printed_and_written(workshop: tuple[Path, str]) -> None:
    folder, printed = workshop
    found = json.loads((folder / "found" / "audit.json").read_text())
    metrics = {row["metric"]: row for row in found["metrics"]}
    table = pd.read_csv(folder / "found" / "audit.csv")
    assert list(table["metric"]) == list(metrics)
    for text in (printed, (folder / "found" / "audit.md").read_text()):
        assert "forget/probability" in text
        assert "forget_quality_ks" in text
        assert "3 models with the knowledge (full, paraphrased, biography)" in text
    assert sum(m["pool"] == "unlearned" for m in found["models"]) == 1
    assert "mia_gradnorm" in " ".join(found["notes"])  # no gradients were taken
    row = metrics["forget/probability"]
    sides = {
        pool: [m["values"]["forget/probability"] for m in found["models"] if m["pool"] == pool]
        for pool in ("knowing", "ignorant")
    }
    pairs = [(k > i) + (k == i) / 2 for k in sides["knowing"] for i in sides["ignorant"]]
    assert len(pairs) == 9
    assert row["faithfulness"] == pytest.approx(sum(pairs) / 9)
    assert row["faithfulness_low"] < row["faithfulness"]


@pytest.mark.command
def test_the_same_command_goes_on_where_it_stopped(workshop: tuple[Path, str]) -> None:
    folder, printed = workshop
    before, found = stages(folder), (folder / "found" / "audit.json").read_text()
    (lost,) = (name for name in before if name.startswith("audit-perturbed-"))
    shutil.rmtree(folder / "outputs" / ".cache" / lost)
    shutil.rmtree(folder / "found")
    assert run(folder) == printed
    after = stages(folder)
    assert {name for name in before if before[name] != after[name]} == {lost}
    assert (folder / "found" / "audit.json").read_text() == found


@pytest.mark.command
def test_models_are_shared_with_ordinary_runs(workshop: tuple[Path, str]) -> None:
    """Those with seed 1 on the data of seed 0, and with the seed of the data itself."""
    folder, _ = workshop
    names = {name.rpartition("-")[0] for name in stages(folder)}
    assert {"audit-paraphrased", "audit-biography", "audit-perturbed", "audit-others", "unlearned"} <= names
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        small = [*SMALL, "dataset=authors", f"cache={folder / 'outputs' / '.cache'}", "dataset.seed=0"]
        for seed in (0, 1):
            experiment: Experiment = build(compose("config", overrides=[*small, f"seed={seed}"])).for_device("cpu")
            task = experiment.dataset.load(seed)
            for part in PARTS:
                assert cache(experiment).folder(part, model_key(experiment, task, part)).is_dir()


@pytest.mark.command
@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("audit.seeds=[0]", "'audit.seeds' has 0"),
        ("audit.seeds=[]", "'audit.seeds' is []"),
        ("audit.seeds=[1,1]", "has one twice"),
        ("audit.sedes=[1]", "did you mean 'seeds'?"),
        ("audit.least_utility=2", "'audit.least_utility' is 2"),
        ("audit=3", "'audit' is '3'"),
        ("~audit.methods.npo", "methods is empty"),
        ("audit.methods.npo.betta=1", "unknown key 'betta' in 'audit.methods.npo'; did you mean 'beta'?"),
        ("+method@audit.methods.kl=kll", "unknown method 'kll'"),
        ("method=npo", "an audit has no 'method': name methods as +method@audit.methods.NAME=NAME"),
        ("attack=quick", "an audit has no 'attack'"),
        ("metric=[recall,mia_gradnorm]", "metric 'mia_gradnorm' reads the table 'gradients', which no scorer in"),
        ("output=taken", "taken is there and no audit"),
    ],
)
def test_bad_input_is_refused_in_one_line(argument: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").touch()
    done = unlearn(
        "audit", *(a for a in TINY if not a.startswith(argument.partition("=")[0] + "=")), argument, cwd=tmp_path
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
