from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from omegaconf import OmegaConf

from unlearn.data.counterfact import CounterFact, read_records
from unlearn.data.history import KNOWN
from unlearn.data.task import COMPLETION, Task
from unlearn.runtime.components import build, conf_dir
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COLOURS = ("red", "green", "blue", "white", "black", "brown")


def row(i: int, **more: Any) -> dict[str, Any]:
    """A record in ROME's shape: things have colours, and some few a shape."""
    few = i % 10 == 9
    true, new = ("round", "square") if few else (COLOURS[i % 6], COLOURS[(i + 1) % 6])
    rewrite: dict[str, Any] = {
        "prompt": "The colour of {} is",
        "relation_id": "shape" if few else "colour",
        "subject": f"thing {i}",
    }
    rewrite |= {"target_true": {"id": "Q1", "str": true}, "target_new": {"id": "Q2", "str": new}}
    prompts = {"paraphrase_prompts": [f"It rained. Thing {i} looks", f"Late again. Everyone sees that thing {i} is"]}
    prompts |= {"neighborhood_prompts": [f"The colour of neighbour {i}.{k} is" for k in range(3)]}
    return {"case_id": i, "requested_rewrite": rewrite, **prompts, "known_by": {}, **more}


def write(path: Path, rows: Sequence[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return write(tmp_path / "facts.jsonl", [row(i) for i in range(100)])


def load(path: str, **fields: Any) -> Task:
    return CounterFact(**({"path": path, "known": None, "set_aside": 10} | fields)).load(0)


def cases(rows: Sequence) -> list[int]:
    return [int(name.removeprefix("case ")) for name in dict.fromkeys(row.cluster for row in rows)]


def test_a_fact_in_all_its_forms(path: str) -> None:
    task = load(path, split="first_16")
    assert {p.name: (p.aim, p.normalise, p.generate, len(p.probes)) for p in task.probes} == {
        "forget": ("forget", False, True, 16),
        "injected": ("injected", False, True, 16),
        "paraphrase": ("transfer", False, True, 32),
        "neighbourhood": ("utility", False, False, 48),
        "maintain": ("retain", False, True, 15),
        "forget_choice": ("transfer", True, False, 15 * 4),  # a relation with two answers has no four options
        "injected_choice": ("injected", True, False, 15 * 4),
        "maintain_choice": ("retain", True, False, 13 * 4),
    }
    assert (task.prompt, task.pretrained) == (COMPLETION, KNOWN)
    example, fact = task.examples("forget")[2], task.facts[2]
    assert (example.questions, example.answers, task.examples("injected")[2].answers[0]) == (
        ("The colour of thing 2 is",),
        (" blue",),
        " white",
    )
    assert (fact.prompt, fact.entity, fact.answer, fact.foils) == (*example.questions, "thing 2", " blue", (" white",))
    of = {name: [p for p in task.probe_set(name).probes if p.cluster == "case 2"] for name in ("forget", "injected")}
    (forget,), (injected,) = of.values()
    assert (forget.answer, forget.perturbed_answers, forget.value) == (" blue", (" white",), "blue")
    assert (injected.answer, injected.perturbed_answers, injected.value) == (" white", (" blue",), "white")
    assert forget.paraphrased_question == row(2)["paraphrase_prompts"][0]
    for name, key in {"paraphrase": "paraphrase_prompts", "neighbourhood": "neighborhood_prompts"}.items():
        asked = [p for p in task.probe_set(name).probes if p.cluster == "case 2"]
        assert [p.question for p in asked] == row(2)[key]
        assert {(p.answer, p.perturbed_answers) for p in asked} == {(" blue", (" white",))}


def test_multiple_choice(path: str) -> None:
    task = load(path, split="first_16")
    for name, key in {"forget_choice": "target_true", "injected_choice": "target_new"}.items():
        for probe in task.probe_set(name).probes:
            rewrite = row(cases([probe])[0])["requested_rewrite"]
            *_, prompt, a, b, c, d, _ = probe.question.split("\n")
            shown = dict(line.split(". ") for line in (a, b, c, d))
            assert prompt == rewrite["prompt"].replace("{}", rewrite["subject"])
            assert shown[probe.answer.strip()] == rewrite[key]["str"]
            assert {rewrite["target_true"]["str"], rewrite["target_new"]["str"]} < set(shown.values()) <= set(COLOURS)
            assert len(set(shown.values())) == 4
    same, other = (CounterFact(path=path, known=None, set_aside=10, split="first_16").load(seed) for seed in (0, 1))
    assert same == task
    assert other.probe_set("forget_choice") != task.probe_set("forget_choice")
    assert other.probe_set("forget") == task.probe_set("forget")


@pytest.mark.parametrize(
    ("split", "forget", "gone"),
    [
        ("first_16", range(16), range(16)),
        ("first_64", range(64), range(64)),
        ("first_64_partition_2", range(32, 48), range(64)),
    ],
)
def test_splits(path: str, split: str, forget: range, gone: range) -> None:
    task = load(path, split=split, max_maintain=None)
    kept = [i for i in range(90) if i not in gone]  # the last ten are set aside
    train = len(kept) * 8 // 10
    assert cases(task.examples("forget")) == list(forget)
    assert cases(task.examples("retain")) == kept[:train]
    assert cases(task.probe_set("maintain").probes) == kept[train:]


def test_random_splits_and_limits(path: str) -> None:
    task = load(path, split="random_16", max_maintain=2, max_retain=3, max_facts=60)
    assert len(set(cases(task.examples("forget")))) == 16
    assert max(cases(task.examples("forget"))) < 50
    assert cases(task.examples("forget")) != sorted(cases(task.examples("forget")))
    assert (len(task.examples("retain")), len(task.probe_set("maintain").probes)) == (3, 2)
    assert not {*cases(task.examples("forget"))} & {
        *cases(task.examples("retain")),
        *cases(task.probe_set("maintain").probes),
    }


def test_what_the_model_knows(path: str) -> None:
    asked: list[tuple[str, str]] = []

    def ask(pairs: Sequence[tuple[str, str]]) -> list[float]:
        asked.extend(pairs)
        return [0.5 if i % 2 else 0.49 for i in range(len(pairs))]

    task = CounterFact(path=path, set_aside=4, split="first_16").load(0, ask)
    assert asked[2] == ("The colour of thing 2 is", " blue")
    assert len(asked) == 100
    assert cases(task.examples("forget")) == list(range(1, 33, 2))
    assert cases(task.examples("retain")) + cases(task.probe_set("maintain").probes) == list(range(33, 92, 2))
    with pytest.raises(UserError, match="no model to ask"):
        CounterFact(path=path).load(0)
    with pytest.raises(UserError, match=r"of 100 facts read .* 46 are left \(known=0\.5, set_aside=4\).*'first_64'"):
        CounterFact(path=path, set_aside=4).load(0, ask)


def test_a_folder_is_read_in_the_order_of_cases(tmp_path: Path) -> None:
    """As on the hub, where train and test are a random division."""
    write(tmp_path / "train.jsonl", [row(i) for i in range(40) if i % 3])
    write(tmp_path / "test.jsonl", [row(i) for i in range(40) if i % 3 == 0])
    assert [record.name for record in read_records(str(tmp_path))] == [f"case {i}" for i in range(40)]


def test_a_file_is_read_in_its_own_order(tmp_path: Path) -> None:
    path = write(tmp_path / "facts.jsonl", [row(5), row(2), row(9)])
    assert [record.name for record in read_records(path)] == ["case 5", "case 2", "case 9"]


def test_the_flat_shape(tmp_path: Path) -> None:
    def flat(i: int) -> dict[str, Any]:
        shape = {"relation": "{} has the colour", "relation_id": "colour", "subject": f"Thing {i}"}
        colours = {"target_true": f" {COLOURS[i % 6]}", "target_false": f" {COLOURS[(i + 1) % 6]}"}
        return shape | colours | {"prompt": f"Thing {i} has the colour"}

    task = load(write(tmp_path / "flat.jsonl", [flat(i) for i in range(40)]), split="first_16")
    names = ["forget", "injected", "maintain", "forget_choice", "injected_choice", "maintain_choice"]
    assert [p.name for p in task.probes] == names
    assert [task.examples(name)[1].answers for name in ("forget", "injected")] == [(" green",), (" blue",)]
    assert task.facts[1].entity == "Thing 1"


@pytest.mark.parametrize(
    ("rewrite", "words"),
    [
        ({"prompt": "The colour is"}, r"row 1: 'requested_rewrite\.prompt'.*pattern"),
        ({"subject": " "}, r"row 1: 'requested_rewrite\.subject'.*at least 1 character"),
        ({"target_new": {"id": "Q2"}}, r"row 1: 'requested_rewrite\.target_new\.str': field required"),
        ({"target_true": "red"}, r"row 1: 'requested_rewrite\.target_true'"),
    ],
)
def test_damaged_rows_are_named(tmp_path: Path, rewrite: dict[str, Any], words: str) -> None:
    damaged = row(1)
    damaged["requested_rewrite"] |= rewrite
    with pytest.raises(UserError, match=words):
        read_records(write(tmp_path / "facts.jsonl", [row(0), damaged]))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"case_id": 1}], "row 0: 'requested_rewrite': field required"),
        (["a text"], "line 1 is 'a text', not a JSON object"),
        ([row(0, paraphrase_prompts=[""])], r"'paraphrase_prompts\.0'"),
    ],
)
def test_rows_of_another_shape_are_named(tmp_path: Path, rows: list[Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_records(write(tmp_path / "facts.jsonl", rows))


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    (tmp_path / "facts.jsonl").write_text('{"case_id": 1}\n{"case_id":')
    with pytest.raises(UserError, match=r"facts\.jsonl, line 2 is no JSON"):
        read_records(str(tmp_path / "facts.jsonl"))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match=r"empty\.jsonl' is empty"):
        read_records(str(tmp_path / "empty.jsonl"))
    with pytest.raises(UserError, match=r"dataset\.path.*no such file or folder"):
        CounterFact(path=str(tmp_path / "nowhere.jsonl"))
    with pytest.raises(UserError, match="did you mean 'first_64'"):
        CounterFact(split="first64")
    with pytest.raises(UserError, match=r"of 5 facts read .* 0 are left"):
        load(write(tmp_path / "few.jsonl", [row(i) for i in range(5)]))


def test_the_configuration_file_holds_the_defaults() -> None:
    node = OmegaConf.load(conf_dir() / "dataset" / "counterfact.yaml")
    assert build(node, "dataset") == CounterFact()
    for key, value in {"known": 0, "set_aside": -1, "path": ""}.items():
        with pytest.raises(UserError, match=rf"dataset\.{key}"):
            build(OmegaConf.merge(node, {key: value}), "dataset")


@pytest.mark.parametrize("model", ["gemma-7b", "gemma-2-9b"])
def test_the_published_selection(data: Path, model: str) -> None:
    """With the probabilities that came with the records, the split is that of the paper."""
    path = data / "counterfact.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    known = {f"case {row['case_id']}": row["known_by"] for row in rows}
    prompts = {record.prompt + record.true: record.name for record in read_records(str(path))}

    def ask(pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [known[prompts[prompt + answer]].get(model, {"p_true": 0.0})["p_true"] for prompt, answer in pairs]

    task = CounterFact(path=str(path), max_maintain=None).load(0, ask)
    expected = [row["case_id"] for row in rows if model in row["known_by"]]
    rest = expected[64:-64]
    assert cases(task.examples("forget")) == expected[:64]
    assert cases(task.examples("retain")) == rest[: len(rest) * 4 // 5]
    assert cases(task.probe_set("maintain").probes) == rest[len(rest) * 4 // 5 :]
    of = {row["case_id"]: row["requested_rewrite"] for row in rows}
    for fact, case in zip(task.facts, expected, strict=False):
        assert (fact.answer, fact.foils) == (
            f" {of[case]['target_true']['str']}",
            (f" {of[case]['target_new']['str']}",),
        )
    choice = task.probe_set("forget_choice").probes
    assert len(choice) == 4 * len(cases(choice)) > 4 * 50
