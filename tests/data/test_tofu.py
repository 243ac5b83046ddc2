from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from unlearn.data.tofu import SPLITS, Tofu
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


def rows(n: int, tag: str, **more: Any) -> list[dict[str, Any]]:
    return [{"question": f"{tag} question {i}?", "answer": f"{tag} answer {i}.", **more} for i in range(n)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in TOFU's layout, with rows of our own."""
    wrong = {"perturbed_answer": ["no", "nay"]}
    other = {"paraphrased_answer": "so", "paraphrased_question": "how?"} | wrong
    tables = {
        "forget10": rows(4, "f"),
        "retain90": rows(6, "r"),
        "forget10_perturbed": rows(4, "f", **other),
        "retain_perturbed": rows(2, "r", **other),
        "real_authors_perturbed": rows(3, "a", **wrong),
        "world_facts_perturbed": rows(3, "w", **wrong),
        "holdout10": rows(4, "h"),
    }
    card = ["---", "configs:"]
    for name, table in tables.items():
        write(tmp_path, name, table)
        card += [f"- config_name: {name}", f"  data_files: {name}.jsonl"]
    (tmp_path / "README.md").write_text("\n".join([*card, "---", ""]))
    return tmp_path


def write(folder: Path, name: str, table: list[dict[str, Any]]) -> None:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))


def test_reads_a_local_folder(folder: Path) -> None:
    task = Tofu(path=str(folder)).load(0)
    assert [(p.name, p.aim, len(p.probes), p.normalise) for p in task.probes] == [
        ("forget", "forget", 4, False),
        ("retain", "retain", 2, False),
        ("real_authors", "utility", 3, True),
        ("world_facts", "utility", 3, True),
        ("holdout", "holdout", 4, False),
    ]
    assert (len(task.examples("forget")), len(task.examples("retain"))) == (4, 6)
    probe = task.probe_set("forget").probes[1]
    assert (probe.answer, probe.paraphrased_answer, probe.perturbed_answers) == ("f answer 1.", "so", ("no", "nay"))
    assert task.probe_set("forget").probes[0].cluster == "author 180"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("forget10", {"answer": ""}, "row 0: 'answer' is empty"),
        ("forget10", {"answer": 7}, "not text"),
        ("forget10_perturbed", {"perturbed_answer": "no"}, "not a list"),
        ("forget10_perturbed", {"perturbed_answer": []}, "not a list"),
    ],
)
def test_bad_rows_are_named(folder: Path, name: str, change: dict[str, Any], words: str) -> None:
    table = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    write(folder, name, [row | change for row in table])
    with pytest.raises(UserError) as error:
        Tofu(path=str(folder)).load(0)
    assert name in str(error.value)
    assert words in str(error.value)


def test_a_missing_column_and_the_nearest_one_are_named(folder: Path) -> None:
    write(folder, "retain90", [{"questions": "q", "answer": "a"}])
    with pytest.raises(UserError, match=r"no column 'question' \(there is 'questions'\)"):
        Tofu(path=str(folder)).load(0)


def test_a_missing_file_and_a_missing_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "world_facts_perturbed.jsonl").unlink()
    with pytest.raises(UserError, match="world_facts_perturbed"):
        Tofu(path=str(folder)).load(0)
    with pytest.raises(UserError, match="no such folder"):
        Tofu(path=str(tmp_path / "nowhere"))


def test_an_unknown_split_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'forget10'"):
        Tofu(split="forget1O")


def test_a_holdout_row_must_not_be_trained_on(folder: Path) -> None:
    write(folder, "holdout10", rows(2, "r"))
    with pytest.raises(UserError, match="row 0 of the holdout is among the training rows"):
        Tofu(path=str(folder)).load(0)


def test_own_refusals(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "no.txt").write_text("Never heard of it.\n\nNo.\n")
    task = Tofu(path=str(folder), refusals=str(tmp_path / "no.txt")).load(0)
    assert task.answers("refusal") == ("Never heard of it.", "No.")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        Tofu(path=str(folder), refusals=str(tmp_path / "empty.txt")).load(0)


@pytest.mark.parametrize("split", SPLITS)
def test_real_tofu(data: Path, split: str) -> None:
    """Structure that the dataset's card promises: the sizes add up, and forget rows come with their perturbed forms."""
    task = Tofu(path=str(data / "tofu"), split=split).load(0)
    percent = int(split.removeprefix("forget"))
    assert len(task.examples("forget")) == 40 * percent
    assert len((*task.examples("retain"), *task.examples("forget"))) == 4000
    forget = task.probe_set("forget")
    assert [p.question for p in forget.probes] == [e.questions[0] for e in task.examples("forget")]
    assert len({e.cluster for e in task.examples("forget")}) == len(task.examples("forget")) / 20
    assert {p.cluster for p in forget.probes} == {e.cluster for e in task.examples("forget")}
    assert not {e.cluster for e in task.examples("forget")} & {e.cluster for e in task.examples("retain")}
    assert len(task.probe_set("holdout").probes) == len(task.examples("forget"))
