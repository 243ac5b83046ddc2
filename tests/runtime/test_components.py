from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Gt
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from unlearn.localize.base import Localizer
from unlearn.localize.no_localization import NoLocalization
from unlearn.methods.base import Method
from unlearn.report.tracking import Tracking
from unlearn.runtime.components import build, check, conf_dir
from unlearn.runtime.errors import UserError

HERE = frozenset({__name__.partition(".")[0]})  # this test as a plugin


@dataclass(frozen=True)
class Part:
    size: Annotated[int, Gt(0)] = 1


@dataclass(frozen=True)
class Whole:
    rate: float
    part: Part
    kind: Literal["a", "b"] = "a"
    pair: tuple[float, float] = (0.0, 1.0)
    maybe: int | None = None
    on: bool = False

    def __post_init__(self) -> None:
        if self.rate == 13:
            raise ValueError("rate must not be 13")


def make(**values: Any) -> Any:
    node = {"_target_": f"{__name__}.Whole", "rate": 0.5, "part": {"_target_": f"{__name__}.Part"}} | values
    return build(OmegaConf.create(node), "whole", HERE)


def test_components_are_built_with_their_types() -> None:
    whole = make(rate=1, pair=[0.1, 2], part={"_target_": f"{__name__}.Part", "size": 3})
    assert whole == Whole(rate=1.0, part=Part(3), pair=(0.1, 2.0))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rat": 1.0}, "unknown key 'rat' in 'whole'; did you mean 'rate'?"),
        ({"rate": "fast"}, "'whole.rate' is 'fast'"),
        ({"rate": None}, "'whole.rate' is None"),
        ({"rate": True}, "'whole.rate' is True"),
        ({"rate": 13}, "rate must not be 13"),
        ({"kind": "c"}, "'whole.kind' is 'c'"),
        ({"maybe": 1.5}, "'whole.maybe' is 1.5"),
        ({"on": 1}, "'whole.on' is 1"),
        ({"pair": [1.0]}, "'whole.pair"),
        (
            {"part": {"_target_": f"{__name__}.Part", "size": 0}},
            "'whole.part.size' is 0: input should be greater than 0",
        ),
        ({"part": 3}, "'whole.part' is 3"),
        ({"part": {"_target_": "unlearn.nowhere.Part"}}, "no such class"),
        ({"part": {"_target_": "unlearn.runtime.store.key_hash"}}, "not a component"),
    ],
)
def test_bad_values_name_key_value_and_what_is_allowed(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as error:
        make(**values)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_key_is_named() -> None:
    make_of = {"_target_": f"{__name__}.Whole", "part": {"_target_": f"{__name__}.Part"}}
    with pytest.raises(UserError, match=r"'whole\.rate' is not set"):
        build(OmegaConf.create(make_of), "whole", HERE)


def test_an_optional_component() -> None:
    """`Localizer | None`: null, or a component of that kind."""
    wanted = Localizer | None
    assert check(None, wanted, "localize.match") is None
    assert check(NoLocalization(), wanted, "localize.match") == NoLocalization()
    with pytest.raises(UserError, match=r"'localize.match' is '3': a Localizer is wanted"):
        check(3, wanted, "localize.match")


def test_all_that_a_union_allows_is_named() -> None:
    wanted: Any = Literal["auto"] | Part | None
    assert check("auto", wanted, "lora") == "auto"
    assert check(None, wanted, "lora") is None
    with pytest.raises(UserError, match=r"^'lora' is 'yes': input should be 'auto' or an instance of Part$"):
        check("yes", wanted, "lora")


@pytest.mark.parametrize(
    ("target", "hint", "words"),
    [
        ("unlearn.data.authors.Authors", Method, "a Method is wanted, and this has no "),
        ("unlearn.data.authors.Authors", Localizer, "a Localizer is wanted, and this has no check, localize"),
        (
            "unlearn.families.tiny.TinyLM",
            Tracking,
            "a Tracking is wanted, whose start takes (run_name, config, folder), not (task, seed)",
        ),
    ],
)
def test_a_component_of_another_kind_is_refused(target: str, hint: Any, words: str) -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        config = compose("config")
    component = build(config.dataset if "data" in target else config.model)
    with pytest.raises(UserError) as error:
        check(component, hint, "place")
    assert f"'place._target_' is '{target}': {words}" in str(error.value)


@pytest.mark.parametrize("target", [None, 3, [1, 2], {"a": 1}, "", "NPO", ".npo.NPO", "a..B", "a.B ", "os.getcwd()"])
def test_a_target_that_is_no_name_of_a_class(target: Any) -> None:
    with pytest.raises(UserError, match=r"'method\._target_' is .*: a class is wanted"):
        build({"_target_": target}, "method")
