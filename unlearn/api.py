"""What `import unlearn` offers; the command line is a thin layer over it. Heavy imports wait for a call."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn.runtime.errors import UserError, plain_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pandas as pd
    from omegaconf import DictConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from unlearn.data.prompt import PromptFormat
    from unlearn.leak.leak_table import Leaks
    from unlearn.metrics.base import Result
    from unlearn.report.folder import Run as Saved


@dataclass(frozen=True)
class Run:
    """A finished run. What it saved is read when it is asked for."""

    folder: Path
    """The run folder."""

    @cached_property
    def results(self) -> pd.DataFrame:
        """Every metric of every role: see `results`."""
        return results(self.folder)

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Result]]:
        """Every metric by role ("original", "unlearned", "control") and key ("forget/probability", "model_utility")."""
        return self._saved.results

    @property
    def leaks(self) -> Leaks | None:
        """The leak report, None where nothing was attacked."""
        return self._saved.leaks

    @cached_property
    def _saved(self) -> Saved:
        from unlearn.report.folder import read_run

        return read_run(self.folder)


def run(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Run:
    """Run an experiment and return it, as `unlearn run OVERRIDES` does: `unlearn.run(["method=npo", "seed=1"])`.

    overrides: KEY=VALUE as on the command line, `plugins=[MODULE]` included. config_dir: a folder with further choices
    for the config groups (`--config-dir`). One run: no sweep, no launcher. UserError says what is wrong with the input.
    """
    from unlearn.cli.arguments import from_overrides
    from unlearn.cli.compose import composed

    _check_several("overrides", overrides, '["method=npo"]')
    with plain_errors():
        arguments = from_overrides(overrides, config_dir)
        config, choices = composed(arguments)
        return Run(start("config", config, choices, arguments.keys, arguments.plugins))


def results(folder: str | Path) -> pd.DataFrame:
    """Return every metric of every role of a finished run: role, metric, probe, value, low, high, n and note.

    probe: the probe set, "" where the metric spans several. low, high: the 95% interval over n items. nan: undefined,
    for the reason in `note`. UserError where the folder is no finished run.
    """
    import pandas as pd

    columns = ("role", "metric", "probe", "value", "low", "high", "n", "note")
    rows = [
        (role, r.name, r.probe, r.value, r.low, r.high, r.n, r.note)
        for role, found in Run(Path(folder)).metrics.items()
        for r in found.values()
    ]
    return pd.DataFrame(rows, columns=list(columns))


def compare(folders: Iterable[str | Path]) -> pd.DataFrame:
    """Return the table of `unlearn compare`: a row for each reference model, setting (seeds pooled) and run.

    For each metric KEY there are columns KEY, KEY_low and KEY_high. Folders that are no finished runs are left out;
    UserError where none is left, or where one does not exist.
    """
    from unlearn.report.compare import comparison, finished

    _check_several("folders", folders, '["outputs/a"]')
    return comparison(finished([Path(folder) for folder in folders]))


def load(run: str | Path, plugins: Iterable[str] = ()) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the unlearned model of a finished run, and its tokenizer, ready to use; UserError where there is none.

    plugins: the top-level modules outside the package that may be imported for what the model consists of.
    """
    from unlearn.models import loading

    with _allowing(plugins):
        return loading.load(Path(run))


def ask(
    model: str | Path | tuple[PreTrainedModel, PreTrainedTokenizerBase],
    questions: Sequence[str],
    max_new_tokens: int = 100,
    plugins: Iterable[str] = (),
) -> list[str]:
    """Return a model's greedy answers to questions, put as the run that made it puts its own.

    model: a run folder, a model folder, or what `load` gave. A model that no run made is asked by its chat template,
    or as "Question: ... Answer:" where it has none. plugins: see `load`. UserError where there is no
    model.
    """
    import torch

    from unlearn.models import loading
    from unlearn.score.generate import generate

    _check_several("questions", questions, '["Where was Ada Berg born?"]')
    with _allowing(plugins):
        if isinstance(model, tuple):
            loaded, tokenizer = model
            place = Path(str(tokenizer.name_or_path))
        else:
            place = Path(model)
            is_run = (place / "config.yaml").is_file()
            loaded, tokenizer = (
                loading.load(place) if is_run else (loading.load_model(str(place)), loading.load_tokenizer(str(place)))
            )
            moved: Any = loaded
            loaded = moved.to("cuda" if torch.cuda.is_available() else "cpu")
        prompts = _prompt_of(place, tokenizer).encode_prompts(tokenizer, list(questions))
        return generate(loaded, tokenizer, prompts, max_new_tokens, token_budget=8192)


def start(
    root: str, config: DictConfig, choices: Mapping[str, str], keys: Sequence[str], plugins: frozenset[str]
) -> Path:
    """Check a composed configuration, run it, and return its folder.

    root: what it is of, "config" (an experiment) or "audit". choices: the names chosen for each group. keys: what the
    command sets. plugins: modules outside the package that may be imported for components.
    """
    from unlearn.runtime.plugins import allowing

    with allowing(plugins):
        return _started(root, config, choices, keys, plugins)


def _started(
    root: str, config: DictConfig, choices: Mapping[str, str], keys: Sequence[str], plugins: frozenset[str]
) -> Path:
    from omegaconf import OmegaConf

    from unlearn.runtime.components import build
    from unlearn.runtime.plugins import PLUGINS
    from unlearn.stages.check import check_metrics
    from unlearn.stages.experiment import Experiment
    from unlearn.stages.rerun import again

    if root == "audit":
        from unlearn.stages.audit import run as audit

        return audit(config, choices, keys, plugins)
    config, names = again(config, choices, keys)
    if PLUGINS in config:
        raise UserError("'plugins' is named by a file: only a command can, plugins=[MODULE]")
    experiment = build(config, plugins=plugins)
    if not isinstance(experiment, Experiment):
        raise UserError(f"'_target_' is '{config.get('_target_')}': the root of a configuration is an Experiment")
    if "metric" in keys:  # those that are there anyway are reported as undefined
        check_metrics(experiment)
    from unlearn.stages.pipeline import run as pipeline

    resolved: Any = OmegaConf.to_container(config, resolve=True)
    return pipeline(experiment, resolved, names)


@contextmanager
def _allowing(plugins: Iterable[str]) -> Iterator[None]:
    """While active, those modules may be imported for components, and what goes wrong is UserError."""
    from unlearn.runtime.plugins import allowing, checked

    _check_several("plugins", plugins, '["my_module"]')
    with plain_errors(), allowing(checked(plugins)):
        yield


def _check_several(name: str, given: object, example: str) -> None:
    """Raise UserError where one text stands for a sequence of them: its letters would be taken one by one."""
    if isinstance(given, str | PathLike):
        raise UserError(f"'{name}' is {str(given)!r}: a list is wanted, as in {example}")


def _prompt_of(place: Path, tokenizer: PreTrainedTokenizerBase) -> PromptFormat:
    """Return the prompt format of the run that a run or model folder belongs to."""
    from unlearn.data.prompt import PromptFormat
    from unlearn.runtime.read import read_json
    from unlearn.stages.prepare import PROMPT
    from unlearn.stages.run_folder import said

    for folder in (place, place.parent):
        if (prompt := said(folder).prompt) is not None:
            return prompt
    if (place / PROMPT).is_file():
        found: PromptFormat = read_json(place / PROMPT, PromptFormat)
        return found
    if tokenizer.chat_template:
        return PromptFormat()
    return PromptFormat(chat_template=False, user_start="Question: ", user_end="\n", answer_start="Answer: ")
