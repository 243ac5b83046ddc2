"""Tracking: what is sent, when it is online, and that it never stops or delays a run."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from unlearn.metrics.base import Result
from unlearn.report.tracking import NoTracker, Tracker, Wandb
from unlearn.runtime.components import build, conf_dir

CONFIG = {"method": {"_target_": "NPO", "beta": 0.1}}


class Client:
    """A stand-in for the wandb module that notes what it is asked for."""

    def __init__(
        self, api_key: str | None = None, mode: str = "online", base_url: str = "https://wandb.example"
    ) -> None:
        self.settings = SimpleNamespace(api_key=api_key, mode=mode, base_url=base_url)
        self.begun: list[dict[str, Any]] = []
        self.logged: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.ended: list[int] = []
        self.torn_down = 0
        self.refuse: set[str] = set()
        self.metrics: list[tuple[str, str | None]] = []

    def setup(self, settings: Any) -> Any:
        assert settings["silent"]
        assert settings["console"] == "off"
        return SimpleNamespace(settings=self.settings)

    def Settings(self, **settings: Any) -> dict[str, Any]:
        return settings

    def teardown(self) -> None:
        self.torn_down += 1

    def init(self, **options: Any) -> Client:
        self.begun.append(options)
        if options["mode"] in self.refuse:
            raise OSError("no answer\nmore words")
        return self

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.metrics.append((name, step_metric))

    def log(self, values: dict[str, Any]) -> None:
        if "log" in self.refuse:
            raise RuntimeError("lost")
        self.logged.append(values)

    def Table(self, **options: Any) -> dict[str, Any]:
        return options

    def Image(self, image: Any) -> Any:
        return image.size

    def finish(self, exit_code: int) -> None:
        self.ended.append(exit_code)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    """The stand-in in place of the real client, on a machine without any key."""
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["RANK"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    fake = Client()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_configurations_are_valid() -> None:
    from omegaconf import OmegaConf

    for name, expected in (("wandb", Wandb()), ("none", NoTracker())):
        node = OmegaConf.load(conf_dir() / "tracker" / f"{name}.yaml")
        assert build(node, "tracker") == expected


def test_no_tracker_does_nothing(tmp_path: Path) -> None:
    tracker = NoTracker().start("run", CONFIG, tmp_path)
    tracker.log({"loss": 1.0}, step=1)
    tracker.log_results({})
    tracker.log_figures({})
    tracker.log_table("table", pd.DataFrame())
    tracker.finish()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("asked", "machine", "expected", "said"),
    [
        ("auto", ("online", "key"), "online", False),
        ("auto", ("online", None), "offline", False),  # without a word
        ("auto", ("offline", "key"), "offline", False),  # WANDB_MODE, or `wandb offline`
        ("auto", ("disabled", "key"), "disabled", False),
        ("online", ("offline", "key"), "online", False),
        ("online", ("online", None), "offline", True),  # asked for, so it is said
        ("offline", ("online", "key"), "offline", False),
    ],
)
def test_online_or_offline(
    client: Client,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    asked: Any,
    machine: tuple[str, str | None],
    expected: str,
    said: bool,
) -> None:
    client.settings.mode, client.settings.api_key = machine
    Wandb(mode=asked).start("run", CONFIG, tmp_path)
    assert [options["mode"] for options in client.begun] == [expected]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("no API key" in captured.err) is said


@pytest.mark.parametrize(
    ("netrc", "mode"),
    [
        ("machine wandb.example login user password secret", "online"),
        ("machine other.example login user password secret", "offline"),
        ("machine wandb.example login", "offline"),  # damaged
    ],
)
def test_a_key_in_netrc(client: Client, tmp_path: Path, netrc: str, mode: str) -> None:
    (tmp_path / "netrc").write_text(netrc)
    Wandb().start("run", CONFIG, tmp_path / "run")
    assert client.begun[0]["mode"] == mode


def test_the_run_is_described(client: Client, tmp_path: Path) -> None:
    Wandb(project="p", entity="e", group="g").start("name", CONFIG, tmp_path)
    options = client.begun[0]
    assert {k: options[k] for k in ("project", "entity", "group", "name", "config", "dir")} == {
        "project": "p", "entity": "e", "group": "g", "name": "name", "config": CONFIG, "dir": tmp_path,
    }  # fmt: skip


def test_a_continued_folder_is_the_same_run(client: Client, tmp_path: Path) -> None:
    client.settings.api_key = "key"
    for folder in ("a", "a", "b"):
        Wandb().start("run", CONFIG, tmp_path / folder)
    first, again, other = client.begun
    assert first["id"] == again["id"] != other["id"]
    assert first["id"]
    assert first["resume"] == "allow"


def test_a_server_that_does_not_answer(client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client.settings.api_key = "key"
    client.refuse = {"online"}
    tracker = Wandb().start("run", CONFIG, tmp_path)
    tracker.log({"loss": 1.0}, step=1)
    assert [options["mode"] for options in client.begun] == ["online", "offline"]
    assert client.begun[0]["id"] == client.begun[1]["id"]
    assert client.logged
    assert capsys.readouterr().err == "W&B: going on offline, no answer\n"


def test_failures_cost_one_line_each(client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client.refuse = {"offline"}
    tracker = Wandb().start("run", CONFIG, tmp_path)
    tracker.log({"loss": 1.0}, step=1)
    assert capsys.readouterr().err == "W&B: no tracking, no answer\n"
    client.refuse = {"log"}
    tracker = Wandb().start("run", CONFIG, tmp_path)
    for step in range(3):
        tracker.log({"loss": 1.0}, step=step)
    tracker.finish()
    assert capsys.readouterr().err == "W&B: tracking stopped, lost\n"
    assert not client.logged


def test_what_is_sent(client: Client, tmp_path: Path) -> None:
    tracker = Wandb().start("run", CONFIG, tmp_path)
    tracker.log({"target/loss": 1.0}, step=7)
    tracker.log({"unlearn/loss": 2.0}, step=0)  # a new stage counts from 0 again
    assert client.logged == [{"target/loss": 1.0, "step": 7}, {"unlearn/loss": 2.0, "step": 0}]
    assert client.metrics == [("step", None), ("*", "step")]
    undefined = Result("forget_quality", "", math.nan, math.nan, math.nan, 0, note="no control model")
    tracker.log_results({"original": [Result("rouge", "forget", 0.5, 0.4, 0.6, 9), undefined]})
    assert client.summary == {"original/forget/rouge": 0.5}
    rows = client.logged[-1]["results"]["data"]
    assert rows[0] == ("original", "forget/rouge", 0.5, 0.4, 0.6, 9, "")
    assert rows[1][1] == "forget_quality"
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    tracker.log_figures({"losses": figure})
    assert client.logged[-1] == {"figures/losses": (240, 120)}
    assert rows[1][2:5] == (None, None, None)  # nan is never sent
    tracker.log_table("mask", pd.DataFrame({"a": [1, 2], "b": [0.5, math.nan], "c": ["x", "y"]}))
    assert client.logged[-1]["mask"] == {"columns": ["a", "b", "c"], "data": [(1, 0.5, "x"), (2, None, "y")]}
    tracker.log_summary({"leak": 0.5, "undefined": math.nan, "endless": math.inf, "verdict": "leaks"})
    assert client.summary == {"original/forget/rouge": 0.5, "leak": 0.5, "verdict": "leaks"}


def test_a_run_that_fails_is_marked(client: Client, tmp_path: Path) -> None:
    Wandb().start("run", CONFIG, tmp_path).finish()
    tracker = Wandb().start("run", CONFIG, tmp_path)
    with pytest.raises(KeyError):
        _fail(tracker)
    assert client.ended == [0, 1]
    tracker.log({"loss": 1.0}, step=1)  # after the end: nothing
    assert not client.logged


def _fail(tracker: Tracker) -> None:
    try:
        raise KeyError
    finally:
        tracker.finish()


def test_only_the_first_process_tracks(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    Wandb().start("run", CONFIG, tmp_path).log({"loss": 1.0}, step=1)
    assert not client.begun


SCRIPT = """
import sys
from pathlib import Path
import pandas as pd
from matplotlib.figure import Figure
from unlearn.report import tracking
from unlearn.metrics.base import Result
tracking.CONNECT_SECONDS = 1.0
tracker = tracking.Wandb().start("name", {"a": {"b": 1}}, Path(sys.argv[1]))
assert type(tracker) is not tracking.Tracker
tracker.log({"loss": 1.5}, step=3)
tracker.log({"loss": 1.5}, step=0)
tracker.log_results({"original": [Result("rouge", "forget", 0.5, 0.4, 0.6, 9)]})
figure = Figure()
figure.subplots().plot([1, 2])
tracker.log_figures({"losses": figure})
tracker.log_table("mask", pd.DataFrame({"a": [1]}))
tracker.finish()
"""


def _with_the_real_client(folder: Path, home: Path, **environment: str) -> str:
    """Run SCRIPT; what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    package = str(Path(__file__).resolve().parents[2])
    kept |= {"HOME": str(home), "PYTHONPATH": package, "WANDB_ERROR_REPORTING": "false", **environment}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)], env=kept, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.command
def test_the_real_client_offline(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert _with_the_real_client(folder, tmp_path) == ""
    assert _with_the_real_client(folder, tmp_path) == ""  # goes on in the same folder
    run_id = (folder / "wandb" / "run-id").read_text()
    runs = list((folder / "wandb").glob("offline-run-*"))
    assert len(runs) == 2
    assert all(run.name.endswith(run_id) for run in runs)
    files = {file.parent.name for file in runs[0].rglob("*") if file.suffix in (".png", ".json")}
    assert files == {"figures", "table"}


@pytest.mark.command
def test_the_real_client_and_a_server_that_never_answers(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        said = _with_the_real_client(tmp_path / "run", tmp_path, WANDB_BASE_URL=url, WANDB_API_KEY="0123456789" * 4)
    assert said.startswith("W&B: going on offline, ")
    assert said.count("\n") == 1
    assert len(list((tmp_path / "run" / "wandb").glob("offline-run-*"))) == 1
