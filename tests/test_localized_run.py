"""The real command with a localizer: the stage and its cache, masked training to its last bit, masks from files."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from helpers import SMALL, start, unlearn
from safetensors.torch import load_file

from unlearn.models.mask import Mask

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.command
HALF = ["localize=random", "localize.select=0.5", "train.weight_decay=0.1"]
BRIEF = "stages=[prepare,localize,unlearn]"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run under a mask, and the cache that it filled."""
    folder = tmp_path_factory.mktemp("workshop")
    done = unlearn("run", *SMALL, *HALF, "output=half", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def run(folder: Path, *arguments: str, **options: Any) -> str:
    done = unlearn("run", *SMALL, *arguments, cwd=folder, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def mask(folder: Path) -> Mask:
    return Mask.load(folder / "localize" / "mask.safetensors")


def changed_outside(workshop: Path, folder: Path) -> int:
    """How many weights that the mask does not select differ from the original model's."""
    (target,) = (workshop / "outputs" / ".cache").glob("original-*/model.safetensors")
    before, after, kept = load_file(target), load_file(folder / "unlearned" / "model.safetensors"), mask(folder)
    assert before.keys() == kept.shapes.keys()
    return sum(int(((after[name] != before[name]) & ~kept.bits(name)).sum()) for name in before)


def test_a_run_under_a_mask(workshop: Path) -> None:
    folder = workshop / "half"
    about = json.loads((folder / "localize" / "localize.json").read_text())
    assert about["fraction"] == pytest.approx(0.5, abs=1e-4)
    assert about["selected"] == mask(folder).selected == sum(share["selected"] for share in about["shares"])
    assert changed_outside(workshop, folder) == 0
    stages = [stage["name"] for stage in json.loads((folder / "run.json").read_text())["stages"]]
    assert stages.index("localize") < stages.index("unlearned")
    assert (folder / "report.html").is_file()


def test_killed_and_started_again_it_ends_the_same(workshop: Path, tmp_path: Path) -> None:
    shutil.copytree(workshop / "outputs", tmp_path / "outputs")
    arguments = [*SMALL, *HALF, "output=killed", "train.checkpoint_seconds=0"]
    for trace in ("killed/localize*", "killed/unlearned.partial/checkpoint.safetensors"):
        process = start("run", *arguments, cwd=tmp_path)
        while process.poll() is None and not list(tmp_path.glob(trace)):
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert process.returncode == -signal.SIGKILL
    run(tmp_path, *HALF, "output=killed", "train.checkpoint_seconds=0")
    one, two = (load_file(f / "unlearned" / "model.safetensors") for f in (workshop / "half", tmp_path / "killed"))
    assert all(tensor.equal(two[name]) for name, tensor in one.items())


def test_two_processes_under_a_mask(workshop: Path) -> None:
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    run(workshop, *HALF, BRIEF, "train.micro_tokens=200", "output=two", launcher=launcher)
    assert changed_outside(workshop, workshop / "two") == 0
    one, two = (json.loads((workshop / f / "unlearned" / "history.json").read_text()) for f in ("half", "two"))
    for a, b in zip(one, two, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=2e-3)
    assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=2e-2)


def test_a_sweep_localizes_once(workshop: Path) -> None:
    said = run(workshop, "-m", "localize=snip,magnitude", "localize.select=0.3", "method=npo,grad_diff", BRIEF)
    assert said.count("localizing") == 2  # a line when a stage was made, none when it was found
    for localizer in ("snip", "magnitude"):
        first, second = (mask(folder) for folder in (workshop / "outputs").glob(f"authors-tiny-*-{localizer}-*"))
        assert first.digest == second.digest
        assert first.fraction == pytest.approx(0.3, abs=1e-4)


def test_localize_alone_then_train_under_the_saved_mask(workshop: Path) -> None:
    run(workshop, "localize=ffn", "stages=[localize]", "output=alone")
    assert not (workshop / "alone" / "unlearned").exists()
    run(workshop, "localize=file", "localize.path=alone", BRIEF, "output=later")
    assert mask(workshop / "later").digest == mask(workshop / "alone").digest
    assert changed_outside(workshop, workshop / "later") == 0


def test_a_mask_alone_has_a_report_and_can_be_compared(workshop: Path) -> None:
    run(workshop, "localize=attention", "stages=[localize,report]", "output=reported")
    page = (workshop / "reported" / "report.md").read_text()
    assert "# attention on authors" in page
    assert "weights may change" in page
    assert "## Results" not in page
    done = unlearn("compare", "half", "reported", cwd=workshop)
    assert done.returncode == 0, done.stderr
    overlaps = (workshop / "outputs" / "comparison" / "compare.md").read_text()
    share = mask(workshop / "half").iou(mask(workshop / "reported"))
    assert f"{share:.3f}" in overlaps.partition("Overlaps")[2]


def test_masks_combine_from_the_command_line(workshop: Path) -> None:
    choices = ["localize@localize.first=ffn", "localize@localize.second=random", "localize.second.select=0.3"]
    run(workshop, "localize=intersection", *choices, "stages=[localize]", "output=both")
    folder = workshop / "both" / "localize" / "masks"
    first, second = (Mask.load(folder / f"{which}.safetensors") for which in ("first", "second"))
    assert mask(workshop / "both").digest == (first & second).digest
    assert second.fraction == pytest.approx(0.3, abs=1e-4)


def test_a_baseline_of_the_size_of_another_mask(workshop: Path) -> None:
    choice = ["localize=random_mlps", "localize@localize.match=last_layers", "localize.match.n=1"]
    run(workshop, *choice, "stages=[localize]", "output=matched")
    about = json.loads((workshop / "matched" / "localize" / "localize.json").read_text())
    other = Mask.load(workshop / "matched" / "localize" / "masks" / "match.safetensors")
    assert about["numbers"]["budget"] == other.selected > 0
    assert about["selected"] >= other.selected


def test_adapters_only_where_the_mask_selects(workshop: Path) -> None:
    arguments = ["localize=last_layers", "localize.n=1", "lora=all_linear", "train.lr=0.01", "method=simnpo"]
    run(workshop, *arguments, BRIEF, "output=adapters")
    adapter = load_file(workshop / "adapters" / "unlearned" / "adapter" / "adapter_model.safetensors")
    assert adapter
    assert all(".layers.1." in name for name in adapter)
    assert changed_outside(workshop, workshop / "adapters") == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["localize=wagle", "localize.select=0"], "'localize.select' is 0: input should be greater than 0"),
        (["localize=wagle", "localize.select=1.5"], "'localize.select' is 1.5: input should be less than or equal"),
        (["localize=wagel"], "unknown localize 'wagel'; did you mean 'wagle'?"),
        (["localize=wagle", "localize.fraction=0.5"], "unknown key 'fraction' in 'localize'"),
        (["localize=file", "localize.path=nowhere"], "'localize.path' is 'nowhere': there is no mask"),
        (["localize=file"], "'localize.path' is not set"),
        (["localize=none", "stages=[localize]"], "choose localize=NAME"),
        (["localize=[snip,ffn]"], "'localize' takes one choice, not a list: localize=NAME (several masks:"),
        (["localize=intersection", "localize@localize.first=ffn", "localize@localize.second=attention"], "no weight"),
        (["localize=last_layers", "localize.n=7"], "7"),
        (["localize=random", "stages=[unlearn]"], "add localize"),
        (["localize=file", "localize.path=half", "model.layers=1"], "was made for another model"),
        (["localize=ffn", "lora=all_linear", "lora.targets=[q_proj]"], "selects no linear module"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input(workshop: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    shutil.copytree(workshop / "outputs", tmp_path / "outputs")
    shutil.copytree(workshop / "half" / "localize", tmp_path / "half" / "localize")
    done = unlearn("run", *SMALL, *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr.splitlines()[-1], done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert sum("unlearn: error: " in line for line in done.stderr.splitlines()) == 1


@pytest.mark.parametrize("localizer", ["causal_tracing", "attribution_patching", "flu"])
def test_a_dataset_without_facts(data: Path, tmp_path: Path, localizer: str) -> None:
    done = unlearn(
        "run", "dataset=tofu", f"dataset.path={data / 'tofu'}", f"localize={localizer}", "tracker=none", cwd=tmp_path
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "tofu" in done.stderr
    assert "fact" in done.stderr
    assert not (tmp_path / "outputs" / ".cache").exists()
