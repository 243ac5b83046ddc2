"""Every localizer of the configuration works on what it declares to read, and finds what it finds on the whole task."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from helpers import RUN
from hydra import compose, initialize_config_dir

from unlearn.localize.mechanisms.causal_tracing import CausalTracing
from unlearn.runtime.components import build, conf_dir
from unlearn.runtime.errors import UserError
from unlearn.stages.check import check_component

if TYPE_CHECKING:
    from unlearn.data.task import Task
    from unlearn.localize.base import Localizer
    from unlearn.models.subject import Subject
    from unlearn.stages.experiment import Experiment

NAMES = sorted(path.stem for path in (conf_dir() / "localize").glob("*.yaml") if path.stem != "file")


def outcome(localizer: Localizer, subject: Subject, task: Task) -> str:
    """The mask's digest, or why a model that knows nothing has none."""
    try:
        return localizer.localize(subject, task, 0).mask.digest
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_declared_is_enough(name: str, subject: Subject, task: Task) -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        experiment: Experiment = build(compose("config", overrides=[f"localize={name}"]))
    localizer = experiment.localize
    if isinstance(localizer, CausalTracing):
        localizer = replace(localizer, known_only=False)
    check_component("localize", localizer, task, RUN)
    assert outcome(localizer, subject, task.only(localizer.reads)) == outcome(localizer, subject, task)
