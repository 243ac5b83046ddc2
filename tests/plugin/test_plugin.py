"""Components from outside the package: one Python file and one YAML each, and a command that names their module."""

from __future__ import annotations

import importlib.metadata
import json
import math
import shutil
import sys
from pathlib import Path

import pytest
from helpers import SMALL, unlearn

from unlearn.api import start
from unlearn.cli.arguments import from_command, from_overrides
from unlearn.cli.catalog import print_catalog
from unlearn.cli.compose import composed
from unlearn.cli.groups import config_dirs, groups
from unlearn.cli.hydra_imports import check_hydra
from unlearn.cli.main import main
from unlearn.runtime.components import build
from unlearn.runtime.errors import UserError
from unlearn.runtime.explained import Explained

HERE = Path(__file__).resolve().parent
CONF = HERE / "conf"
CHOICES = {
    "method": "bounded",
    "metric": "answer_length",
    "localize": "named",
    "update": "momentum",
    "dataset": "capitals",
    "attack": "shout",
    "evaluate": "doubt",
}
USED = ["metric=[recall,answer_length,mean_doubt]", "evaluate=[tokens,generations,doubt]"]
USED += ["localize=named", "method=bounded", "update=momentum", "dataset=capitals", "attack=[shout]"]
TINY = [text for text in SMALL if not text.startswith(("dataset.", "attack="))]
LISTS = ("metric", "attack", "evaluate")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


@pytest.mark.parametrize(("group", "name"), CHOICES.items())
def test_each_kind_of_component(group: str, name: str) -> None:
    choice = f"{group}=[{name}]" if group in LISTS else f"{group}={name}"
    arguments = from_overrides([choice, "plugins=[my_plugin]"], CONF)
    config, chosen = composed(arguments)
    component = getattr(build(config, plugins=arguments.plugins), group)
    component = component[name] if group in LISTS else component
    assert type(component).__module__.startswith("my_plugin.")
    assert group in LISTS or chosen[group] == name


def test_it_is_imported_only_where_the_command_names_it() -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "my_plugin"]:
        del sys.modules[module]
    config, _ = composed(from_overrides(["localize=named"], CONF))
    with pytest.raises(UserError, match=r"'localize\._target_' is 'my_plugin.*add plugins=\[my_plugin\]$"):
        build(config)
    with pytest.raises(UserError, match=r"add plugins=\[my_plugin, other\]$"):
        build(config, plugins=frozenset({"other"}))
    assert "my_plugin" not in sys.modules


def test_an_installed_package_offers_its_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("mine", "my_plugin.localizer", "unlearn.plugins")
    monkeypatch.setattr("unlearn.runtime.plugins.entry_points", lambda group: {"unlearn.plugins": [point]}[group])
    config, _ = composed(from_overrides(["localize=named"], CONF))
    assert type(build(config).localize).__name__ == "Named"


def test_a_file_never_names_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "sly.yaml").write_text("# @package _global_\nplugins: [my_plugin]\n")
    config, choices = composed(from_overrides(["experiment=sly"], tmp_path))
    with pytest.raises(UserError, match="'plugins' is named by a file: only a command can, plugins="):
        start("config", config, choices, [], frozenset())
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("plugins: [my_plugin]\n_target_: my_plugin.localizer.Named\n")
    (run / "run.json").write_text("{}")
    config, choices = composed(from_overrides([f"run={run}", "stages=[attack]"]))
    with pytest.raises(UserError, match="'plugins' is named by a file"):
        start("config", config, choices, [], frozenset())


def test_a_file_makes_hydra_import_nothing_either(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nhydra:\n  callbacks:\n    mine:\n      _target_: my_plugin.Callback\n"
    (tmp_path / "experiment" / "sly.yaml").write_text(text)
    with pytest.raises(UserError, match=r"'hydra.callbacks.mine._target_' is 'my_plugin.*plugins=\[my_plugin"):
        check_hydra(from_overrides(["experiment=sly", "seed=0,1"], tmp_path), "config")
    check_hydra(from_overrides(["experiment=sly", "plugins=[my_plugin]"], tmp_path), "config")
    check_hydra(from_overrides(["method=npo", "localize=named,none", "localize.part=norm,mlp"], CONF), "config")
    found = f"hydra.searchpath=['file://{tmp_path}']"
    further: list[tuple[list[str], Path | None]] = [
        ([found, "experiment=sly"], None),
        ([found, "experiment=sly"], CONF),
    ]
    further += [([found, "experiment=sly,null"], None), (["experiment=glob(s*)"], tmp_path)]
    for overrides, folder in further:
        with pytest.raises(UserError, match=r"'hydra.callbacks.mine._target_' is 'my_plugin"):
            check_hydra(from_overrides(overrides, folder), "config")
    check_hydra(from_overrides([found, "experiment=sly", "plugins=[my_plugin]"]), "config")
    with pytest.raises(UserError, match=r"'hydra.callbacks.mine._target_' is 'my_plugin"):
        check_hydra(from_overrides([f"experiment={'../' * 20}{tmp_path.relative_to('/')}/experiment/sly"]), "config")
    for flag in ("--config-path", "--config-name"):
        with pytest.raises(UserError, match="the root of the configuration is unlearn's own: --config-dir"):
            from_command(["method=npo", flag, str(tmp_path)])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("callbacks.x._target_", "evil.Callback"),
        ("callbacks.x", "{_target_: hydra.utils.get_object, path: evil.it}"),
        ("launcher._target_", "evil.Launcher"),
        ("sweeper._target_", "evil.Sweeper"),
        ("job_logging.handlers.x", "{class: evil.Handler}"),
        ("job_logging.filters.x", "{evil: {class: evil.Filter}}"),
        ("hydra_logging.handlers.x", "{class: logging.StreamHandler, stream: 'ext://evil.stream'}"),
        ("callbacks", "${evil_callbacks}"),
        ("callbacks.x._target_", "${hydra.job.num}"),
        ("searchpath", "['pkg://evil.conf']"),
    ],
)
def test_hydra_imports_what_the_command_names(key: str, value: str) -> None:
    text = f"hydra.searchpath={value}" if key == "searchpath" else f"++hydra.{key}={value}"
    command = ["++evil_callbacks={x: {_target_: evil.Callback}}", text]
    with pytest.raises(UserError, match=rf"^'hydra\.{key.partition('.')[0]}.*add plugins=\["):
        check_hydra(from_overrides(command), "config")
    assert "evil" not in sys.modules


def test_hydras_own_logging_is_no_plugin() -> None:
    check_hydra(from_overrides(["hydra/job_logging=default", "hydra/hydra_logging=default"]), "config")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("plugins=[my_plugin.metric]", "'plugins' has 'my_plugin.metric': name top-level Python modules"),
        ("plugins=[3]", "'plugins' has '3'"),
        ("plugins=a,b", r"'plugins=a,b' is not of the form plugins=\[MODULE,...\]"),
        ("+plugins=[a]", "is not of the form"),
    ],
)
def test_what_names_no_module(override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        from_overrides([override])


def test_modules_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_plugin.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for module, why in (("nowhere_plugin", "No module named"), ("broken_plugin", "invalid syntax")):
        with pytest.raises(UserError, match=f"'x._target_' is '{module}.C': no such class.*{why}"):
            build({"_target_": f"{module}.C"}, "x", frozenset({module}))


def test_a_choice_may_not_hide_behind_one_that_there_is(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "npo.yaml").touch()
    with pytest.raises(UserError, match=r"npo.yaml has the name of a choice that there is \(method/npo\): rename it"):
        config_dirs(tmp_path)


def test_choices_from_outside_are_known_by_name() -> None:
    assert groups(config_dirs(CONF))["localize"]["named"] == CONF / "localize" / "named.yaml"
    with pytest.raises(UserError, match=r"unknown localize 'namd'; did you mean 'named'\?"):
        composed(from_overrides(["localize=namd"], CONF))
    with pytest.raises(UserError, match=r"unknown key 'prt' in 'localize'; did you mean 'part'\?"):
        composed(from_command(["localize=named", "localize.prt=x", "--config-dir", str(CONF)]))


def test_they_are_listed_without_being_imported(capsys: pytest.CaptureFixture[str]) -> None:
    print_catalog("localizers", CONF)
    lines = capsys.readouterr().out.splitlines()
    (place,) = (i for i, line in enumerate(lines) if line.split()[:1] == ["named"])
    assert "the parameters whose name has a given part" in lines[place]
    assert "an example of a localizer" in lines[place + 1]


@pytest.mark.command
def test_tab_completion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", f"unlearn run --config-dir {CONF} plugins=[my_plugin] localize=nam")
    assert unlearn("-sc", "query=bash", cwd=tmp_path).stdout.split() == ["localize=named"]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("list me", ["methods", "metrics"]),
        (f"list --config-dir {CONF} da", ["datasets"]),
        (f"run --config-dir {CONF} evaluate=[tokens,d", ["evaluate=[tokens,default", "evaluate=[tokens,doubt"]),
        ("run evaluate=[tokens,to", []),
        ("run seed=1 attack=[quantize,prune,prune_", ["attack=[quantize,prune,prune_magnitude"]),
    ],
)
def test_completion_of_kinds_and_inside_lists(
    typed: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", f"unlearn {typed}")
    with pytest.raises(SystemExit):
        main(["-sc", "query=bash"])
    assert capsys.readouterr().out.split() == words


@pytest.mark.command
def test_a_whole_run(tmp_path: Path) -> None:
    shutil.copytree(HERE / "my_plugin", tmp_path / "my_plugin")
    command = ["run", "--config-dir", str(CONF), *TINY, *USED, "output=run"]
    refused = unlearn(*command, cwd=tmp_path)
    assert refused.returncode == 2
    assert "add plugins=[my_plugin]" in refused.stderr
    assert not (tmp_path / "run").exists()
    done = unlearn(*command, "plugins=[my_plugin]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {row["name"] for row in metrics["unlearned"]} == {"recall", "answer_length", "mean_doubt"}
    page = (tmp_path / "run" / "report.html").read_text()
    assert ">Style<" in page
    assert ">Doubt<" in page  # their metrics' groups
    for role in ("original", "unlearned", "control"):
        table = Explained.load(tmp_path / "run" / "scores" / role / "doubt.parquet")
        (mean,) = (row for row in metrics[role] if row["name"] == "mean_doubt")
        assert table.title == "Doubt"
        assert len(table.frame) == mean["n"] == 8
        assert mean["value"] == pytest.approx(table.frame["entropy"].mean())
        assert 0 < mean["value"] < math.log(600)
    leaks = json.loads((tmp_path / "run" / "attacks" / "leak.json").read_text())
    assert "shout" in {row["attack"] for row in leaks["rows"]}
    again = unlearn("run", "run=run", "stages=[attack]", "attack=refusals", "tracker=none", cwd=tmp_path)
    assert again.returncode == 2
    assert "add plugins=[my_plugin]" in again.stderr
