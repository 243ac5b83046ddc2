"""Track experiments: send the numbers of a run to Weights & Biases, or nowhere. It never stops or delays a run."""

from __future__ import annotations

import functools
import math
import os
import sys
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar

from unlearn.runtime import distributed
from unlearn.runtime.progress import notify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import pandas as pd
    from matplotlib.figure import Figure

    from unlearn.metrics.base import Result

CONNECT_SECONDS = 10.0  # how long a server may take to answer before the run goes on offline
UPLOAD_SECONDS = 60.0  # how long the last upload may take; the rest stays on disk for `wandb sync`


class Tracking(Protocol):
    """A place to send a run's numbers to: a small frozen dataclass in conf/tracker."""

    def start(self, run_name: str, config: Mapping[str, Any], folder: Path) -> Tracker:
        """Begin (or, in a folder that was tracked before, continue) the run whose files are in `folder`."""
        ...


class Tracker:
    """Take what a run tells while it lasts. This one sends it nowhere."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers at one step. Names carry their stage ("unlearn/loss"); each stage counts its own steps."""

    def log_results(self, results: Mapping[str, Iterable[Result]]) -> None:
        """Log the final metrics of each model, by model name."""

    def log_summary(self, values: Mapping[str, float | str]) -> None:
        """Log numbers and words that sum up the run, by name."""

    def log_figures(self, figures: Mapping[str, Figure]) -> None:
        """Log figures by name."""

    def log_table(self, name: str, table: pd.DataFrame) -> None:
        """Log a table of numbers and texts."""

    def finish(self) -> None:
        """End the run: nothing may be logged after it. Called while an exception passes it marks the run as failed."""


@dataclass(frozen=True)
class NoTracker:
    """Track nothing: everything is in the run folder anyway."""

    def start(self, run_name: str, config: Mapping[str, Any], folder: Path) -> Tracker:
        """Return a tracker that sends nothing."""
        return Tracker()


@dataclass(frozen=True)
class Wandb:
    """Send to Weights & Biases, through its own client (https://docs.wandb.ai). Files go to `wandb/` in the run folder.

    Where the server does not answer within 10 s the run goes on offline; `wandb sync` uploads it later. A run that
    continues in its folder continues as the same W&B run.
    """

    project: str = "unlearn"
    """The project that runs go to."""
    entity: str | None = None
    """User or team; None: the account's default."""
    group: str | None = None
    """A name that several runs share."""
    mode: Literal["auto", "online", "offline"] = "auto"
    """How to connect: "auto" (online where there is an API key), "online" or "offline". "auto" looks for the key as the
    client does (WANDB_API_KEY, netrc, W&B's settings); where WANDB_MODE is set, it does what that says."""

    def start(self, run_name: str, config: Mapping[str, Any], folder: Path) -> Tracker:
        """Begin or continue the run, in the main process.

        Where that fails, say so and return a tracker that sends nothing.
        """
        if not distributed.is_main():
            return Tracker()
        try:
            return _WandbTracker(self._connect(run_name, config, folder))
        except Exception as error:
            notify(f"W&B: no tracking, {_first_line(error)}")
            return Tracker()

    def _connect(self, run_name: str, config: Mapping[str, Any], folder: Path) -> Any:
        import wandb

        shared = wandb.setup(_settings(wandb)).settings
        mode = shared.mode if self.mode == "auto" else self.mode
        if mode == "online" and not _has_key(shared):  # the client would ask for one and wait
            mode = "offline"
            if self.mode == "online":
                notify("W&B: there is no API key, going on offline")
        init: Callable[..., Any] = functools.partial(
            wandb.init,
            project=self.project,
            entity=self.entity,
            group=self.group,
            name=run_name,
            id=_run_id(folder),
            config=dict(config),
            dir=folder,
            reinit="finish_previous",
            settings=_settings(wandb),
        )
        if mode == "online":
            try:
                return init(mode="online", resume="allow")
            except Exception as error:
                notify(f"W&B: going on offline, {_first_line(error)}")
                wandb.teardown()  # it would refuse the id of the run that it failed to begin
                mode = "offline"
        return init(mode=mode)


P = ParamSpec("P")
T = TypeVar("T", bound="_WandbTracker")


def _harmless(method: Callable[Concatenate[T, P], None]) -> Callable[Concatenate[T, P], None]:
    """Let a failure of the tracker cost one line and the rest of the tracking, never the run."""

    @functools.wraps(method)
    def attempt(self: T, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.run is None:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.run = None
            notify(f"W&B: tracking stopped, {_first_line(error)}")

    return attempt


class _WandbTracker(Tracker):
    """Send to a run of W&B's client."""

    def __init__(self, run: Any) -> None:
        self.run = run
        run.define_metric("step")
        run.define_metric(
            "*", step_metric="step"
        )  # the client's own step must never go back, as that of a new stage does

    @_harmless
    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log({**values, "step": step})

    @_harmless
    def log_results(self, results: Mapping[str, Iterable[Result]]) -> None:
        import wandb

        rows: list[Any] = [
            (model, r.key, r.value, r.low, r.high, r.n, r.note) for model, found in results.items() for r in found
        ]
        self.run.summary.update({f"{model}/{key}": value for model, key, value, *_ in rows if not math.isnan(value)})
        columns: list[Any] = ["model", "metric", "value", "low", "high", "n", "note"]
        data: list[Any] = [tuple(map(_sent, row)) for row in rows]
        self.run.log({"results": wandb.Table(columns=columns, data=data)})

    @_harmless
    def log_summary(self, values: Mapping[str, float | str]) -> None:
        self.run.summary.update({name: value for name, value in values.items() if _sent(value) is not None})

    @_harmless
    def log_figures(self, figures: Mapping[str, Figure]) -> None:
        from io import BytesIO

        import wandb
        from PIL import Image

        images = {}
        for name, figure in figures.items():
            figure.savefig(buffer := BytesIO(), format="png", dpi=120)
            images[f"figures/{name}"] = wandb.Image(Image.open(buffer))
        self.run.log(images)

    @_harmless
    def log_table(self, name: str, table: pd.DataFrame) -> None:
        import wandb

        data: list[Any] = [tuple(map(_sent, row)) for row in table.itertuples(index=False)]
        self.run.log({name: wandb.Table(columns=list(table.columns), data=data)})

    @_harmless
    def finish(self) -> None:
        self.run.finish(exit_code=int(sys.exc_info()[0] is not None))
        self.run = None


def _sent(value: Any) -> Any:
    """Return a value as it may be sent: None for nan and infinity, which the server takes for no number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _settings(wandb: Any) -> Any:
    """Return silent and light settings: nothing captured or collected that the run folder does not hold already."""
    return wandb.Settings(
        silent=True,
        console="off",
        init_timeout=CONNECT_SECONDS,
        finish_timeout=UPLOAD_SECONDS,
        disable_code=True,
        disable_git=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )


def _has_key(settings: Any) -> bool:
    """Return whether W&B's client would find credentials for its server without asking."""
    import netrc
    from urllib.parse import urlsplit

    if settings.api_key or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    places = [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]
    for path in map(os.path.expanduser, places):
        try:
            found = netrc.netrc(path).authenticators(urlsplit(settings.base_url).netloc)
        except (OSError, netrc.NetrcParseError):
            continue
        if found and found[2]:
            return True
    return False


def _run_id(folder: Path) -> str:
    """Return the W&B id of the run in `folder`, the same each time."""
    path = folder / "wandb" / "run-id"
    if path.exists():
        return path.read_text().strip()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(run_id := uuid.uuid4().hex[:8])
    return run_id


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
