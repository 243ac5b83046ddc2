"""The real command with attacks: the stage and its cache, earlier runs, model folders, failures, bad input."""

from __future__ import annotations

import json
import shutil
import signal
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from helpers import SMALL, unlearn

from unlearn.attacks.base import AttackResult, AttackSetting, Inapplicable, Threat

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject

pytestmark = pytest.mark.command
ATTACKED = ["attack=[quantize,relearn_forget]", "attack.relearn_forget.samples=[2]", "attack.relearn_forget.rates=[1]"]
BARE = [argument for argument in SMALL if argument != "attack=none"]
ANOTHER = "the original is not the one that was unlearned"
DATA = ["dataset.authors=30"]  # three to forget: one of them is the attacker's


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one attacked run, and the cache that it filled."""
    folder = tmp_path_factory.mktemp("workshop")
    said = run(folder, *BARE, *DATA, *ATTACKED, "output=first")
    assert ANOTHER not in said
    return folder


def run(folder: Path, *arguments: str) -> str:
    done = unlearn("run", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def leaks(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "attacks" / "leak.json").read_text())
    return read


def made(folder: Path) -> list[str]:
    """Names of the attacks in the cache, one for each model."""
    found = (folder / "outputs" / ".cache").glob("attack-*/manifest.json")
    return sorted(path.parent.name.rpartition("-")[0] for path in found)


def test_a_run_is_attacked(workshop: Path) -> None:
    report = leaks(workshop / "first")
    assert [row["attack"] for row in report["rows"]] == ["none", "quantize", "relearn_forget"]
    assert report["baseline"] == "control"
    assert report["worst"][-1]["threat"] == "overall"
    for name in ("quantize", "relearn_forget"):
        for model in ("original", "unlearned", "control"):
            assert (workshop / "first" / "attacks" / name / model / "outcomes.parquet").is_file()
    items = json.loads((workshop / "first" / "attacks" / "items.json").read_text())
    sides = ("attacker_items", "held_out_items")
    taught, scored = ({item["cluster"] for item in items if item["side"] == side} for side in sides)
    assert taught
    assert scored
    assert not taught & scored
    stages = [stage["name"] for stage in json.loads((workshop / "first" / "run.json").read_text())["stages"]]
    assert stages[-1] == "attacks"


def test_what_was_found_on_the_references_is_shared(workshop: Path) -> None:
    before = made(workshop)
    run(workshop, *BARE, *DATA, *ATTACKED, "method=grad_diff", "output=second")
    after = made(workshop)
    assert len(before) == 9
    assert len(after) == 12  # three more: what was found on the other unlearned model


def test_an_earlier_run_is_attacked_again_under_its_own_configuration(workshop: Path) -> None:
    shutil.copytree(workshop / "first", workshop / "old")
    config = (workshop / "old" / "config.yaml").read_text()
    run(workshop, "tracker=none", "stages=[attack]", "run=old", "attack=[quantize]", "attack.quantize.formats=[int8]")
    assert [row["attack"] for row in leaks(workshop / "old")["rows"]] == ["none", "quantize"]
    assert (workshop / "old" / "config.yaml").read_text() == config
    assert not (workshop / "old" / "attacks" / "relearn_forget").exists()


def test_another_original_than_the_one_that_was_unlearned(workshop: Path) -> None:
    shutil.copytree(workshop / "first", workshop / "strange")
    manifest = workshop / "strange" / "unlearned" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["inputs"]["model"]["seed"] = 7
    manifest.write_text(json.dumps(content))
    again = ["tracker=none", "stages=[attack]", "attack=[quantize]", "attack.quantize.formats=[int8]"]
    assert ANOTHER in run(workshop, *again, "run=strange")
    assert ANOTHER not in run(workshop, *again, "run=first")


@pytest.mark.parametrize(("model", "leak"), [("original", 1.0), ("control", 0.0)])
def test_a_model_folder_is_attacked(workshop: Path, model: str, leak: float) -> None:
    """The original leaks all, the control model nothing: whatever the attack, to the last digit."""
    (folder,) = (workshop / "outputs" / ".cache").glob(f"{model}-*[0-9a-f]")
    attacks = ["attack=[quantize]", "leak.answer_metric=prob"]
    run(workshop, *BARE, *DATA, "stages=[attack]", f"run={folder}", *attacks, f"output=as-{model}")
    report = leaks(workshop / f"as-{model}")
    for row in report["rows"]:
        assert row["status"] == "uninformative" or row["leak"] == pytest.approx(leak, abs=1e-9), row
        assert row["unlearned"] == pytest.approx(row["original" if leak else "control"], abs=1e-9)


SEEN: list[weakref.ref[Any]] = []  # models that were attacked


@dataclass(frozen=True)
class Broken:
    """An attack that fails, in one way or the other."""

    way: str

    threat: ClassVar[Threat] = "white"
    family: ClassVar[str] = "test"
    reference: ClassVar[str] = ""
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes"})

    def check(self, task: Task, setting: RunSetting) -> None:
        """Nothing is wrong yet."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        if self.way == "looks":
            alive = [model for model in SEEN if model() is not None]
            SEEN.append(weakref.ref(subject.module))
            raise Inapplicable(f"{len(alive)} earlier models are still there")
        if self.way == "dawdles":
            subject.module.requires_grad_(False)
            for weight in subject.module.parameters():
                weight.zero_()
            signal.setitimer(signal.ITIMER_REAL, 0.01)  # a minute has passed
            while True:
                time.sleep(0.001)
        if self.way == "skips":
            zero = all(not weight.any() for weight in subject.module.parameters())
            raise Inapplicable("all weights are 0" if zero else "this model has no such thing")
        raise ZeroDivisionError("by zero")


def test_a_failing_attack_is_a_row_and_the_others_go_on(workshop: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    import torch
    from hydra import compose, initialize_config_dir

    from unlearn.attacks.weights.quantize import Quantize
    from unlearn.runtime.components import build, conf_dir
    from unlearn.stages.attack import AttackedModel, attack

    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        experiment = build(compose("config", overrides=[*BARE, *DATA, "leak.baseline=placebo", "leak.max_seconds=60"]))
    some = {
        "looks": Broken("looks"),
        "breaks": Broken("breaks"),
        "dawdles": Broken("dawdles"),
        "skips": Broken("skips"),
        "quantize": Quantize(("int8",)),
    }
    experiment = replace(experiment, attack=some, cache=str(tmp_path / "cache"))
    path = str(workshop / "first" / "unlearned")
    models: Any = {part: AttackedModel(part, path, {"path": path}) for part in ("original", "unlearned")}
    attack(experiment, experiment.dataset.load(0), models, tmp_path, torch.device("cpu"))
    rows = {row["attack"]: row for row in leaks(tmp_path)["rows"]}

    def found(name: str, role: str) -> str:
        return str(json.loads((tmp_path / "attacks" / name / role / "attack.json").read_text())["reason"])

    assert leaks(tmp_path)["baseline"] == "placebo"
    assert (rows["breaks"]["status"], rows["breaks"]["reason"]) == ("error", "ZeroDivisionError: by zero")
    assert (rows["dawdles"]["status"], rows["dawdles"]["reason"]) == ("skipped", "not done in 60 s (leak.max_seconds)")
    # on another copy of the model than the one that was left without weights
    assert (rows["skips"]["status"], rows["skips"]["reason"]) == ("skipped", "this model has no such thing")
    assert len(SEEN) == 3
    assert all(model() is None for model in SEEN)
    assert found("looks", "unlearned") == found("looks", "placebo") == "0 earlier models are still there"
    assert rows["quantize"]["status"] in ("ok", "uninformative")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["attack=[quantise]"], "unknown attack 'quantise'; did you mean 'quantize'?"),
        (["attack=[quantize]", "attack.quantize.formats=[int3]"], "'attack.quantize.formats[0]' is 'int3'"),
        (["attack=[quantize]", "attack.quantize.bits=4"], "unknown key 'bits' in 'attack.quantize'"),
        (["leak.attacker_share=1.5"], "'leak.attacker_share' is 1.5: input should be less than 1"),
        (["leak.max_seconds=0"], "'leak.max_seconds' is 0"),
        (["leak.seeds=[]"], "'leak.seeds' is []"),
        (["dataset.authors=2", "dataset.facts_per_author=1"], "1 forget items leave"),
        (
            ["leak.baseline=control", "control_model=none"],
            "'leak.baseline' is 'control', but there is no control model",
        ),
        (["run=first"], "add stages=[attack]"),
        (["stages=[attack]", "run=first", "output=elsewhere"], "'output' is decided by the run"),
        (["stages=[attack]", "attack=[]"], "attack=none makes none"),
        (["leak.seeds=[1,1]"], "'leak': seeds has [1, 1]: each seed once"),
        (
            ["attack=[relearn_unrelated]", "attack.relearn_unrelated.text=./no"],
            "'text' is './no': there is no such file",
        ),
        (["attack=[mia]", "attack.mia.against=./no"], "'attack.mia.against' is './no': there is no such file"),
        (["stages=[attack]", "run=frist"], "neither a run folder (config.yaml) nor a model folder"),
        (["stages=[attack]", "run=first", "method=npo"], "'method' is decided by the run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input(workshop: Path, arguments: Sequence[str], words: str) -> None:
    whole = any(argument.startswith("run=") for argument in arguments)
    done = unlearn("run", *(["tracker=none"] if whole else BARE), *arguments, cwd=workshop)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr.splitlines()[-1], done.stderr
    assert "Traceback" not in done.stderr, done.stderr
