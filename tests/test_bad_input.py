"""Whatever is wrong with the input, the real command says so in one line, exits with 2, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers import SMALL, start, unlearn

pytestmark = pytest.mark.command
SetUp = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """A command line, the words that its one line must have, and what is in the working directory before."""

    name: str
    arguments: str | list[str]  # a text is split at blanks
    words: str | tuple[str, ...]
    set_up: SetUp | None = None

    def run(self, folder: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
        """The finished command, and what the folder held before it."""
        if self.set_up:
            self.set_up(folder)
        before = cache_key(folder)
        return unlearn(
            *self.arguments.split() if isinstance(self.arguments, str) else self.arguments, cwd=folder
        ), before


def each(cases: list[Case]) -> pytest.MarkDecorator:
    assert len({case.name for case in cases}) == len(cases)
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def refused(done: subprocess.CompletedProcess[str], words: str | tuple[str, ...], alone: bool = True) -> None:
    """Status 2; the last line on stderr is the error, has these words and is the only one (`alone`: the only line)."""
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("unlearn: error: "), done.stderr
    assert len(lines) == 1 if alone else sum("unlearn: error: " in line for line in lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in [words] if isinstance(words, str) else words:
        assert word in lines[-1], lines[-1]


def cache_key(folder: Path) -> dict[str, tuple[int, int] | None]:
    """All paths below a folder with size and time of change; None for a folder."""
    paths = {path: path.stat() for path in folder.rglob("*")}
    return {str(p.relative_to(folder)): None if p.is_dir() else (s.st_size, s.st_mtime_ns) for p, s in paths.items()}


def half_written(folder: Path) -> list[str]:
    """Temporary files and empty folders."""
    return [str(p) for p in folder.rglob("*") if p.suffix == ".tmp" or (p.is_dir() and not any(p.iterdir()))]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.getbasetemp() / "huggingface"))


# --- the configuration: refused before anything is imported, let alone written

AUTHORS = "unlearn.data.authors.Authors"
CONFIGURATION = [
    # choices
    Case("model", "run model=tinny", ("unknown model 'tinny'", "did you mean 'tiny'?", "allowed: ", "zephyr-7b-beta")),
    Case("dataset", "run dataset=tofuu", ("unknown dataset 'tofuu'", "did you mean 'tofu'?")),
    Case("method", "run method=npx", ("unknown method 'npx'", "did you mean 'npo'?")),
    Case("train", "run train=tinyy", ("unknown train 'tinyy'", "did you mean 'tiny'?")),
    Case("evaluate", "run evaluate=defalt", ("unknown evaluate 'defalt'", "did you mean 'default'?")),
    Case("metric", "run metric=[recall,probabilty]", ("unknown metric 'probabilty'", "did you mean 'probability'?")),
    Case("tracker", "run tracker=wandbb", ("unknown tracker 'wandbb'", "did you mean 'wandb'?")),
    Case("lora", "run lora=all_liner", ("unknown lora 'all_liner'", "did you mean 'all_linear'?")),
    Case("experiment", "run experiment=nowhere", "unknown experiment 'nowhere'"),
    Case("prompt", "run prompt@model.prompt=chatt", ("unknown prompt 'chatt'", "did you mean 'chat'?")),
    Case("prompt in the wrong place", "run prompt=chat", ("unknown key 'prompt'", "'prompt@model.prompt'")),
    Case("choice that is empty", "run method=", "unknown method ''"),
    Case("choice that is a number", "run method=3", "unknown method '3'"),
    Case("choice that is null", "run method=null", "'method' is not set"),
    Case("two choices without -m", "run method=npo,dpo", ("'method=npo,dpo'", "--multirun")),
    Case("no metric at all", "run metric=[]", "'metric' is not set"),
    Case("no scorer at all", "run evaluate=[]", "'evaluate' is not set (Experiment needs at least one: evaluate=[NAME"),
    Case("metric without its table", "run metric=[recall] evaluate=[tokens]", "evaluate=[tokens,generations]"),
    Case("metric that is none", "run +metric.mine=3", ("'metric.mine' is '3'", "a Metric is wanted")),
    # keys
    Case("key", "run methd=npo", ("unknown key 'methd'", "did you mean 'method'?")),
    Case("key of a component", "run method.betta=1", ("unknown key 'betta' in 'method'", "did you mean 'beta'?")),
    Case("key two levels down", "run model.finetune.lrr=1", ("'lrr' in 'model.finetune'", "did you mean 'lr'?")),
    Case("key of a component not chosen", "run lora.rank=4", ("'lora.rank'", "lora=NAME", "all_linear")),
    Case("key with +", "run +model.prompt.sistem=x", ("'sistem' in 'model.prompt'", "did you mean 'system'?")),
    Case("key with ++", "run ++seeed=1", ("unknown key 'seeed'", "did you mean 'seed'?")),
    Case("key with ~", "run ~method.betta", ("'betta' in 'method'", "did you mean 'beta'?")),
    Case("key of a number", "run seed.x=1", "unknown key 'x' in 'seed'"),
    Case("key of Hydra", "run hydra.runn=1", "Hydra has no key 'hydra.runn'"),
    Case("class that is no component", "run method._target_=os.system", "'method._target_' is 'os.system'"),
    Case("class of another kind", f"run method._target_={AUTHORS}", f"'method._target_' is '{AUTHORS}': a Method is"),
    Case("module that is no plugin", "run plugins=[3]", "'plugins' has '3'"),
    # values
    Case("text for a number", "run method.beta=fast", ("'method.beta' is 'fast'", "number")),
    Case("fraction for an integer", "run train.steps=1.5", ("'train.steps' is 1.5", "integer")),
    Case("boolean for a number", "run seed=true", ("'seed' is True", "integer")),
    Case("number for a boolean", "run train.bucket=1", ("'train.bucket' is 1", "boolean")),
    Case("list for a number", "run seed=[1,2]", ("'seed' is [1, 2]", "integer")),
    Case("number for a list", "run train.evaluate_at=0.5", ("'train.evaluate_at' is 0.5", "list")),
    Case("list too short", "run update.betas=[0.9]", "'update.betas[1]' is not set"),
    Case("null where there must be a value", "run train.lr=null", ("'train.lr' is None", "number")),
    Case("learning rate 0", "run train.lr=0", ("'train.lr' is 0", "greater than 0")),
    Case("nan", "run train.lr=nan", "'train.lr' is nan"),
    Case("infinity", "run train.lr=1e400", ("'train.lr' is inf", "finite")),
    Case("negative beta", "run method.beta=-1", ("'method.beta' is -1", "greater than 0")),
    Case(
        "fraction over 1", "run train.evaluate_at=[0.5,2]", ("'train.evaluate_at[1]' is 2", "less than or equal to 1")
    ),
    Case("seed -1", "run seed=-1", ("'seed' is -1", "greater than or equal to 0")),
    Case("seed too large", "run seed=99999999999999999999", ("'seed' is 9999", "less than 4294967296")),
    Case("no rows in a batch", "run train.batch_size=0", "'train.batch_size' is 0"),
    Case("threads without end", "run threads=100000", ("'threads' is 100000", "less than or equal to 1024")),
    Case("steps and epochs", "run train.epochs=3", ("'train'", "exactly one of steps and epochs")),
    Case("neither steps nor epochs", "run train.steps=null", ("'train'", "exactly one of steps and epochs")),
    Case("widths that do not fit", "run model.hidden=30", "hidden=30 must be a multiple of"),
    Case("no stage", "run stages=[]", ("'stages' is []", "at least 1")),
    Case("stage", "run stages=[prepare,unlern]", ("'stages[1]' is 'unlern'", "did you mean 'unlearn'?")),
    Case("stage without what it needs", "run stages=[score]", ("'stages' has score", "add unlearn")),
    Case("split", "run dataset.split=forget20", ("unknown split 'forget20'", "did you mean 'forget10'?")),
    Case("split of TOFU", "run dataset=tofu dataset.split=retain90", ("'retain90'", "allowed: forget01, forget05")),
    Case("device", "run device=gpu", ("'device' is 'gpu'", "cuda")),
    Case("empty output", "run output=", ("'output' is ''", "at least 1 character")),
    Case("unset variable", "run output=${oc.env:UNSET}", "'UNSET' not found"),
    # Hydra's grammar, flags, commands
    Case("open bracket", "run metric=[recall", ("cannot read 'metric=[recall'", "brackets must close")),
    Case("accent without quotes", "run output=été", "as in \"output='été'\""),
    Case("no value", "run npo", ("'npo' is not of the form KEY=VALUE", "unlearn run --help")),
    Case("flag", "run seed=1 --fast", "unknown flag '--fast'"),
    Case("flag without its value", "run seed=1 --cfg", "argument --cfg/-c: expected one argument"),
    Case("flag that unpickles", "run --experimental-rerun config.pickle", "would unpickle a file"),
    Case("configuration folder", "run --config-dir nowhere", "nowhere' not found"),
    Case("launcher", "run -m hydra/launcher=basik", ("unknown hydra/launcher 'basik'", "did you mean 'basic'?")),
    Case("command", "rum method=npo", ("unknown command 'rum'", "did you mean 'run'?")),
    Case("flag of no command", "--fast", "unrecognized arguments: --fast"),
    Case("kind to list", "list metods", ("unknown kind 'metods'", "did you mean 'methods'?")),
    Case("nothing to report", "report", ("arguments are required", "unlearn report --help")),
]


@each(CONFIGURATION)
def test_configuration(case: Case, tmp_path: Path) -> None:
    refused(case.run(tmp_path)[0], case.words)
    assert not cache_key(tmp_path)


PLUGIN = Path(__file__).resolve().parent / "plugin" / "conf"
HEAVY = ("torch", "transformers", "datasets", "pandas", "scipy", "matplotlib", "my_plugin")


@pytest.mark.parametrize(
    "arguments", ["--help", "list", "run --help", "run method=npx", "run seed=-1", f"list --config-dir {PLUGIN}"]
)
def test_nothing_heavy_is_imported_for_it(arguments: str, tmp_path: Path) -> None:
    code = f"""if True:
        import atexit, sys
        from unlearn.cli.main import main
        atexit.register(lambda: print("imported:", *({set(HEAVY)} & sys.modules.keys())))
        main({arguments.split()})
    """
    done = unlearn(cwd=tmp_path, launcher=(sys.executable, "-c", code))
    assert done.stdout.splitlines()[-1] == "imported:"


@each(
    [
        Case("choice", "run seed=1 -m method=npo,npx", ("unknown method 'npx'", "did you mean 'npo'?")),
        Case("value", "run -m train.lr=fast,0 tracker=none", "'train.lr' is 'fast'"),
    ]
)
def test_sweep(case: Case, tmp_path: Path) -> None:
    refused(case.run(tmp_path)[0], case.words, alone=False)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["multirun.yaml"]
    assert not half_written(tmp_path)


# --- files and folders named in the configuration: refused before the run folder is made


def model_folder(folder: Path, *names: str) -> None:
    (folder / "model").mkdir()
    for name in names:
        (folder / "model" / name).write_text("{}")


def tofu(**replaced: str | None) -> SetUp:
    """A folder in TOFU's layout, with some of its files replaced, or left out."""

    def rows(n: int, tag: str, **more: Any) -> str:
        lines = [{"question": f"{tag} question {i}?", "answer": f"{tag} answer {i}."} | more for i in range(n)]
        return "".join(json.dumps(line) + "\n" for line in lines)

    def set_up(folder: Path) -> None:
        (folder / "tofu").mkdir()
        wrong = {"perturbed_answer": ["no", "nay"]}
        other = {"paraphrased_answer": "so", "paraphrased_question": "how?"} | wrong
        tables: dict[str, str | None] = {
            "forget10": rows(4, "f"),
            "retain90": rows(6, "r"),
            "forget10_perturbed": rows(4, "f", **other),
            "retain_perturbed": rows(2, "r", **other),
            "real_authors_perturbed": rows(3, "a", **wrong),
            "world_facts_perturbed": rows(3, "w", **wrong),
        }
        card = ["---", "configs:"]
        for name, text in (tables | replaced).items():
            card += [f"- config_name: {name}", f"  data_files: {name}.jsonl"]
            if text is not None:
                (folder / "tofu" / f"{name}.jsonl").write_text(text)
        (folder / "tofu" / "README.md").write_text("\n".join([*card, "---", ""]))

    return set_up


def text_file(name: str, text: str) -> SetUp:
    return lambda folder: (folder / name).write_text(text)


def no_refusals(folder: Path) -> None:
    (folder / "mute.py").write_text(
        "from dataclasses import dataclass, replace\n"
        "from unlearn.data.authors import Authors\n"
        "@dataclass(frozen=True)\n"
        "class Mute(Authors):\n"
        "    def load(self, seed, ask=None):\n"
        "        task = super().load(seed)\n"
        "        sets = {name: rows for name, rows in task.sets.items() if name != 'refusal'}\n"
        "        return replace(task, sets=sets, beside={'injected': 'forget'})\n"
    )


def damaged_configuration(folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "config.yaml").write_text("a: [")


PRETRAINED = "run tracker=none model=smollm2-135m"
MUTE = "dataset._target_=mute.Mute"
TOFU = "run tracker=none dataset=tofu dataset.path=tofu"
FILES = [
    Case("model folder", [*PRETRAINED.split(), "model.path='~/nö where'"], ("'model.path'", "there is no such file")),
    Case("model folder below a folder", f"{PRETRAINED} model.path=a/b/c", "there is no such file or folder"),
    Case("no config.json", f"{PRETRAINED} model.path=model", "it holds no config.json", model_folder),
    Case(
        "pickled weights alone",
        f"{PRETRAINED} model.original=./model",
        ("'model.original'", "no *.safetensors", "never loaded"),
        lambda folder: model_folder(folder, "config.json", "pytorch_model.bin"),
    ),
    Case("model that is a file", f"{PRETRAINED} model.path=./m", "neither a folder nor", text_file("m", "")),
    Case("home of nobody", ["run", "output='~no body/x'"], "Could not determine home directory"),
    Case("TOFU folder", "run dataset=tofu dataset.path=./tofu", ("'dataset.path'", "there is no such folder")),
    Case("TOFU not here, hub out of reach", TOFU, ("dataset 'tofu'", "config 'forget10'", "cannot be read")),
    Case("config file", TOFU, "world_facts_perturbed", tofu(world_facts_perturbed=None)),
    Case(
        "column",
        TOFU,
        ("config 'retain90'", "no column 'question'", "there is 'questions'"),
        tofu(retain90='{"questions": "q", "answer": "a"}\n'),
    ),
    Case("empty answer", TOFU, ("row 0", "'answer' is empty"), tofu(forget10='{"question": "q", "answer": " "}\n')),
    Case("number as answer", TOFU, ("row 0", "is '7', not text"), tofu(forget10='{"question": "q", "answer": 7}\n')),
    Case("line that is no JSON", TOFU, ("retain90.jsonl, line 1", "JSON"), tofu(retain90='{"question": "q", "ans\n')),
    Case("empty file", TOFU, ("config 'forget10'", "perhaps it is empty"), tofu(forget10="")),
    Case("refusals", f"{TOFU} dataset.refusals=no.txt", ("'dataset.refusals'", "no such file"), tofu()),
    Case("empty refusals", f"{TOFU} dataset.refusals=no.txt", "no.txt is empty", text_file("no.txt", " \n")),
    Case(
        "method without its refusals",
        "run method=po dataset._target_=mute.Mute plugins=[mute]",
        "needs refusal rows",
        no_refusals,
    ),
    Case("output that is a file", "run output=here", "here is not a run folder", text_file("here", "")),
    Case("output that holds something", "run output=.", "is not a run folder and not empty", text_file("x", "")),
    Case("output below a file", "run output=here/run", ("cannot write", "Not a directory"), text_file("here", "")),
    Case("output with a name too long", f"run output={'x' * 300}", "File name too long"),
    Case("damaged config.yaml in the output", "run output=run", "cannot read run/config.yaml", damaged_configuration),
    Case("run that is not there", "report nowhere", "there is no folder nowhere"),
]


@each(FILES)
def test_files(case: Case, tmp_path: Path) -> None:
    done, before = case.run(tmp_path)
    refused(done, case.words)
    assert cache_key(tmp_path) == before


def test_a_hub_that_does_not_answer_is_found_out_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By themselves the hub's libraries try five times, for half a minute and more."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = unlearn("run", "dataset=tofu", cwd=tmp_path)
    refused(done, ("dataset 'locuslab/TOFU'", "cannot be read"), alone=False)
    assert "http://127.0.0.1:9 does not answer" in done.stderr
    assert "Retrying" not in done.stderr
    assert not cache_key(tmp_path)


# --- what only a run under way can find out

QUICK = [*SMALL, "model.finetune.epochs=1", "train.steps=3", "train.warmup=0", "control_model=none"]
QUICK += ["metric=[probability]", "evaluate=[tokens]"]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run in outputs/first, and the cache that it filled."""
    folder = tmp_path_factory.mktemp("wörk shop")
    done = unlearn("run", *QUICK, "output=outputs/first", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copy(workshop: Path, tmp_path: Path) -> Path:
    """A copy of the workshop to be damaged."""
    shutil.copytree(workshop, tmp_path, dirs_exist_ok=True)
    return tmp_path


def target_model(workshop: Path) -> Path:
    return next(path for path in (workshop / "outputs" / ".cache").glob("original-*") if path.is_dir())


def wrecked(name: str, text: str) -> SetUp:
    return lambda folder: (folder / "outputs" / "first" / name).write_text(text)


def emptied(folder: Path) -> None:
    (folder / "empty").mkdir()


def unfinished(folder: Path) -> None:
    (folder / "outputs" / "first" / "metrics.json").unlink()


FIRST = ["run", *QUICK, "output=outputs/first"]
RUNS = [
    Case("misspelt run", "report outputs/firts", ("there is no folder", "did you mean outputs/first?")),
    Case("no run", "report empty", "empty is not a run folder", emptied),
    Case("unfinished run", "report outputs/first", "is not finished", unfinished),
    Case("damaged metrics", "report outputs/first", "cannot read outputs/first/m", wrecked("metrics.json", "{")),
    Case("damaged run.json", "compare outputs/first", ("run.json is damaged", "version"), wrecked("run.json", "{}")),
    Case("damaged table", "report outputs/first", "tokens.parquet", wrecked("scores/original/tokens.parquet", "PAR1")),
    Case("comparison below a file", "compare outputs/first --out here/x", "cannot write", text_file("here", "")),
    Case("another configuration", [*FIRST, "train.lr=0.5"], ("holds a run of another configuration", "train.lr: ")),
    Case("no scores to report", [*FIRST, "stages=[report]"], ("'stages' has report", "add score"), unfinished),
]


@each(RUNS)
def test_run_folders(case: Case, copy: Path) -> None:
    done, before = case.run(copy)
    refused(done, case.words)
    assert cache_key(copy) == before


def begun(folder: Path) -> set[str]:
    """The files below a folder that are neither locks nor in the cache's finished stages."""
    return {
        path for path, mark in cache_key(folder).items() if mark and ".lock" not in path and "unlearned/" not in path
    }


@each(
    [
        Case("a GPU where there is none", "run device=cuda:99", "'device' is 'cuda:99'"),
        Case("cache that is a file", [*FIRST, "cache=here"], "cannot write in here", text_file("here", "")),
        Case(
            "prompt that leaves no answer",
            ["run", *SMALL, "output=outputs/first", "model.prompt.max_tokens=5"],
            "raise max_tokens (5)",
        ),
        Case(
            "hub model out of reach",
            f"{PRETRAINED} output=outputs/first control_model=none",
            "cannot load the tokenizer",
        ),
    ]
)
def test_a_run_that_cannot_begin(case: Case, tmp_path: Path) -> None:
    refused(case.run(tmp_path)[0], case.words)
    assert begun(tmp_path) <= {"outputs/first/config.yaml", "here"}
    assert not half_written(tmp_path)


def cut_short(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:2000])


def one_missing(weights: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights)
    del tensors["model.norm.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_short, ("cannot load the model 'model'", "header")),
        (one_missing, ("cannot load the model 'model'", "1 weights are missing, model.norm.weight")),
        (None, ("chat template", "model.prompt")),
    ],
    ids=["weights cut short", "a weight is missing", "no chat template"],
)
def test_model_folders(damage: SetUp | None, words: tuple[str, ...], workshop: Path, tmp_path: Path) -> None:
    shutil.copytree(target_model(workshop), tmp_path / "model")
    if damage:
        damage(tmp_path / "model" / "model.safetensors")
    before = cache_key(tmp_path / "model")
    given = [
        "control_model=none",
        "model.path=model",
        "output=run",
        *(["prompt@model.prompt=tiny"] if damage else []),
    ]
    refused(unlearn(*PRETRAINED.split(), *given, cwd=tmp_path), words)
    assert cache_key(tmp_path / "model") == before
    started = {"run/config.yaml"} if damage else set()  # that it can't be asked is known before anything is begun
    assert begun(tmp_path) == started | {f"model/{name}" for name in before}
    assert not half_written(tmp_path)


def test_no_disk_space_then_damaged_files_then_the_same_result(copy: Path) -> None:
    """The one command three times: files may not grow, then what it and the cache hold is damaged, then all is well."""
    arguments = ["run", *QUICK, "output='outputs/nächster Lauf'"]
    second = copy / "outputs" / "nächster Lauf"
    limit = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
    limit += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    full = unlearn(*arguments, cwd=copy, launcher=(sys.executable, "-c", limit))
    refused(full, ("no space is left to write in outputs/nächster Lauf", "choose another output="), alone=False)
    assert not half_written(copy)
    assert not (second / "unlearned").exists()

    weights = target_model(copy) / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    scores = next(path for path in (copy / "outputs" / ".cache").glob("scores-original-*") if path.is_dir())
    (scores / "manifest.json").unlink()
    (second / "unlearned.partial" / "checkpoint.safetensors").write_text("cut sho")

    done = unlearn(*arguments, cwd=copy)
    assert done.returncode == 0, done.stderr
    assert f"{target_model(copy).name} is damaged (model.safetensors): building it again" in done.stderr
    assert f"{scores.name} is damaged (manifest.json): building it again" in done.stderr
    assert "Lauf/unlearned.partial is damaged: starting this stage again" in done.stderr
    for name in ("metrics.json", "unlearned/model.safetensors"):
        assert (second / name).read_bytes() == (copy / "outputs" / "first" / name).read_bytes(), name
    assert not half_written(copy)
    assert not list(copy.rglob("*.partial"))


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="only root can mount a full file system")
def test_a_full_file_system(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=1", "tmpfs", full], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        refused(unlearn("run", "output=full/run", cwd=tmp_path), "no space is left to write in full/run")
        assert list(cache_key(tmp_path)) == ["full"]
    finally:
        subprocess.run(["umount", full], check=True)


def test_ctrl_c(tmp_path: Path) -> None:
    arguments = ["run", *SMALL, "model.finetune.epochs=300", "output=run"]  # both models, in two processes
    with start(*arguments, cwd=tmp_path) as process:
        while process.poll() is None and not list(tmp_path.glob("outputs/.cache/*.partial")):
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == "interrupted: the same command goes on from here"
    assert "Traceback" not in errors
    assert not half_written(tmp_path)


def test_the_readme_shows_the_line_that_there_is(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("unlearn: error: "))
    assert unlearn("run", "method=nppo", cwd=tmp_path).stderr.splitlines() == [line]
