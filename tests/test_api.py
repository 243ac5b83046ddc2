"""What `import unlearn` offers, and that the command gives the same run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bigram import PROMPT, WORDS, random_llama, tokenizer
from helpers import SMALL, unlearn
from toy_intervention import push

import unlearn as package
from unlearn.models.loading import save_model

if TYPE_CHECKING:
    from collections.abc import Callable

OVERRIDES = [*SMALL, "output=run", "metric=[probability,recall]"]
TOKENS = 40  # of an answer about invented authors
TIMES = {"seconds", "peak_rss_mb", "time"}


def without_times(value: Any) -> Any:
    """JSON without what a clock or the machine's memory decides."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def same_file(one: Path, other: Path) -> bool:
    if one.suffix == ".json":
        return bool(without_times(json.loads(one.read_text())) == without_times(json.loads(other.read_text())))
    return one.read_bytes() == other.read_bytes()


def test_importing_it_and_naming_its_functions_imports_nothing_heavy() -> None:
    code = "import sys, unlearn; unlearn.run, unlearn.compare, dir(unlearn); "
    code += "print({'torch', 'transformers', 'pandas'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_its_types_are_for_everyone() -> None:
    assert (Path(package.__file__).parent / "py.typed").is_file()


def test_bad_input_is_raised() -> None:
    with pytest.raises(package.UserError, match=r"unknown method 'nppo'; did you mean 'npo'\?"):
        package.run(["method=nppo"])
    with pytest.raises(package.UserError, match=r"'method\.beta' is -1"):
        package.run(["method.beta=-1"])
    with pytest.raises(package.UserError, match="there is no folder nowhere"):
        package.results("nowhere")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: package.run("method=npo"), "overrides"),
        (lambda: package.compare("/a"), "folders"),
        (lambda: package.ask("nowhere", "Who?"), "questions"),
        (lambda: package.load("nowhere", plugins="mine"), "plugins"),
    ],
)
def test_one_text_is_no_sequence_of_texts(call: Callable[[], Any], name: str) -> None:
    with pytest.raises(package.UserError, match=rf"^'{name}' is '.*': a list is wanted, as in \["):
        call()


def test_a_plugins_model_is_opened_where_the_call_names_the_plugin(tmp_path: Path) -> None:
    model, words = random_llama(3), tokenizer()
    pushed = push(WORDS.index("a"))
    pushed.refusal = (WORDS.index("e"), WORDS.index("d"))
    pushed.attach(model)
    save_model(model, words, tmp_path / "unlearned")
    (tmp_path / "config.yaml").touch()
    (tmp_path / "run.json").write_text(json.dumps({"prompt": asdict(PROMPT)}))
    for call in (lambda: package.load(tmp_path), lambda: package.ask(tmp_path, ["a b"])):
        with pytest.raises(package.UserError, match=r"add plugins=\[toy_intervention\]$"):
            call()
    package.load(tmp_path, plugins=["toy_intervention"])
    assert package.ask(tmp_path, ["a b"], 4, plugins=["toy_intervention"]) == ["e d"]
    with pytest.raises(package.UserError, match="add plugins="):  # it was allowed for that call alone
        package.load(tmp_path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The working folders of the same run by the command, and by the function."""
    folders = {way: tmp_path_factory.mktemp(way) for way in ("command", "function")}
    done = unlearn("run", *OVERRIDES, cwd=folders["command"])
    assert done.returncode == 0, done.stderr
    call = f"import unlearn; print(repr(unlearn.run({OVERRIDES!r}).folder))"
    done = unlearn(cwd=folders["function"], launcher=[sys.executable, "-c", call])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "PosixPath('run')"
    return folders


@pytest.mark.command
def test_command_and_function_give_the_same_run(runs: dict[str, Path]) -> None:
    one, other = (folder / "run" for folder in runs.values())
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in (one, other)]
    assert names[0] == names[1]
    assert "unlearned/model.safetensors" in names[0]
    reports = {"report.html", "report.md"}  # they tell how long everything took
    files = [name for name in names[0] if (one / name).is_file() and name not in reports]
    assert [name for name in files if not same_file(one / name, other / name)] == []


@pytest.mark.command
def test_what_a_run_saved(runs: dict[str, Path]) -> None:
    run = package.Run(runs["command"] / "run")
    saved = json.loads((run.folder / "metrics.json").read_text())
    table = run.results
    assert list(table.columns) == ["role", "metric", "probe", "value", "low", "high", "n", "note"]
    assert len(table) == sum(map(len, saved.values()))
    row = table[(table["role"] == "control") & (table["metric"] == "recall") & (table["probe"] == "retain")].iloc[0]
    (same,) = (r for r in saved["control"] if (r["name"], r["probe"]) == ("recall", "retain"))
    assert (row["value"], row["low"], row["high"], row["n"]) == (same["value"], same["low"], same["high"], same["n"])
    assert run.metrics["control"]["retain/recall"].value == same["value"]
    assert run.leaks is None
    compared = package.compare([run.folder, runs["function"] / "run"])
    assert set(compared["kind"]) == {"run", "original", "control"}
    assert {"model_utility", "retain/probability", "retain/probability_low"} & {*compared.columns}


@pytest.mark.command
def test_answers_are_those_of_the_run(runs: dict[str, Path]) -> None:
    import pandas as pd

    folder = runs["command"] / "run"
    asked = pd.read_parquet(folder / "scores" / "unlearned" / "generations.parquet").head(4)
    questions, expected = list(asked["question"]), list(asked["generation"])
    assert package.ask(folder, questions, TOKENS) == expected
    assert package.ask(folder / "unlearned", questions, TOKENS) == expected
    assert package.ask(package.load(folder), questions, TOKENS) == expected
    original = next((runs["command"] / "outputs" / ".cache").glob("original-*/config.json")).parent
    told = pd.read_parquet(folder / "scores" / "original" / "generations.parquet").head(4)
    assert package.ask(original, questions, TOKENS) == list(told["generation"])
