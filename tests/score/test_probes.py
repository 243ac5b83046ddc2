from __future__ import annotations

import dataclasses
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scoring import Scoring
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from unlearn.data.prompt import PromptFormat
from unlearn.data.task import Task
from unlearn.runtime.components import build, cache_key, conf_dir
from unlearn.runtime.errors import UserError
from unlearn.runtime.explained import Explained
from unlearn.score.generations import Generations
from unlearn.score.gradients import Gradients
from unlearn.score.table import GENERATIONS, GRADIENTS, TOKENS, Tables, load_tables, probe_names
from unlearn.score.tokens import Tokens

if TYPE_CHECKING:
    from pathlib import Path

    from unlearn.score.base import Scorer

Parts = tuple[LlamaForCausalLM, PreTrainedTokenizerFast, PromptFormat, Task]


@pytest.fixture
def parts(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: PromptFormat, task: Task) -> Parts:
    return model, tokenizer, prompt, task


def test_every_candidate_has_a_row(parts: Parts) -> None:
    tokens = Scoring(generate=False).score(*parts)["tokens"]
    assert list(tokens.columns) == TOKENS
    assert tokens[["probe", "item", "kind", "choice"]].values.tolist() == [
        *[["forget", i, kind, c] for i in (0, 1) for kind, c in CANDIDATES],
        *[["world", 0, kind, c] for kind, c in CANDIDATES if kind != "paraphrase"],
        *[["holdout", i, "answer", 0] for i in (0, 1)],
    ]
    first: Any = tokens.loc[0, ["aim", "normalise", "cluster", "text"]]
    assert first.tolist() == ["forget", False, "x", "In Rome."]
    assert tokens.loc[tokens["probe"] == "world", "normalise"].all()
    assert [len(logp) for logp in tokens["logp"]] == [len(text) + 1 for text in tokens["text"]]  # a token a character
    assert tokens["eos"].all()
    assert tokens["zlib"].tolist() == [len(zlib.compress(text.encode())) for text in tokens["text"]]
    for column, kind in {"logp": "float32", "hit": "bool", "mean": "float32", "var": "float32"}.items():
        assert {values.dtype.name for values in tokens[column]} == {kind}


CANDIDATES = [("answer", 0), ("paraphrase", 0), ("perturbed", 0), ("perturbed", 1)]


@torch.no_grad()
def test_log_probabilities_are_those_of_the_text(parts: Parts) -> None:
    model, tokenizer, prompt, _ = parts
    tokens = Scoring(generate=False).score(*parts)["tokens"]
    row = prompt.encode(tokenizer, "When?", "It was July.")
    logp = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
    expected = [float(logp[t - 1, row.ids[t]]) for t in range(row.n_prompt, len(row.ids))]
    [found] = tokens.loc[tokens["text"] == "It was July.", "logp"]
    assert found == pytest.approx(expected, abs=1e-5)


def test_generations_hold_what_they_are_compared_with(parts: Parts) -> None:
    table = Scoring().score(*parts)["generations"]
    assert list(table.columns) == GENERATIONS
    assert table["question"].tolist() == ["Where?", "When?", "Who?", "Why?", "How?"]
    first: Any = table.loc[0, ["answer", "paraphrase", "value"]]
    assert first.tolist() == ["In Rome.", "It is Rome.", "Rome"]
    assert table.loc[2, ["paraphrase", "value"]].isna().all()
    assert max(map(len, table["generation"])) <= 5  # the task's limit, a character a token
    longer = Scoring(max_new_tokens=9).score(*parts)["generations"]["generation"]
    assert [text[:5] for text in longer] == [text[:5] for text in table["generation"]]
    assert max(map(len, longer)) > 5


def test_each_set_is_put_in_its_own_prompt_and_answered_at_its_own_length(parts: Parts) -> None:
    model, tokenizer, prompt, task = parts
    forget, world, holdout = task.probes
    bare = PromptFormat(chat_template=False, eos=False)
    own = dataclasses.replace(forget, prompt=bare, max_new_tokens=3)
    mixed = Scoring(gradients=True).score(
        model, tokenizer, prompt, dataclasses.replace(task, probes=(world, own, holdout))
    )
    assert [list(table["probe"].unique()) for table in mixed.values()] == [
        ["world", "forget", "holdout"],
        ["world", "forget", "holdout"],
        ["forget", "holdout"],
    ]
    plain = Scoring(gradients=True).score(model, tokenizer, prompt, task)
    apart = Scoring(gradients=True, max_new_tokens=3).score(model, tokenizer, bare, task)
    for expected, sets in ((plain, {"world", "holdout"}), (apart, {"forget"})):
        rows, others = ({n: t[t["probe"].isin(sets)] for n, t in tables.items()} for tables in (mixed, expected))
        assert rows["tokens"]["eos"].all() == (sets != {"forget"})
        for found, alone in zip(rows["tokens"]["logp"], others["tokens"]["logp"], strict=True):
            np.testing.assert_allclose(found, alone, atol=1e-5)
        assert rows["generations"]["generation"].tolist() == others["generations"]["generation"].tolist()
        np.testing.assert_allclose(rows["gradients"]["gradnorm"], others["gradients"]["gradnorm"], rtol=1e-5)
    longer = Scoring(max_new_tokens=9).score(model, tokenizer, prompt, dataclasses.replace(task, probes=(world, own)))
    assert {len(text) > 5 for text in longer["generations"]["generation"]} == {True}


def test_sets_of_one_prompt_and_length_are_asked_at_once(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer, prompt, task = parts
    calls: list[int] = []

    def generate(model: object, tokenizer: object, prompts: list[list[int]], limit: int, *more: object) -> list[str]:
        calls.append(limit)
        return [""] * len(prompts)

    monkeypatch.setattr("unlearn.score.generate.generate", generate)
    Scoring().score(model, tokenizer, prompt, task)
    assert calls == [5]


def test_nothing_is_generated_or_differentiated_unasked(parts: Parts) -> None:
    assert list(Scoring(generate=False).score(*parts)) == ["tokens"]


def test_a_completion_has_no_eos(parts: Parts) -> None:
    model, tokenizer, prompt, task = parts
    tokens = Scoring(generate=False).score(model, tokenizer, dataclasses.replace(prompt, eos=False), task)["tokens"]
    assert not tokens["eos"].any()
    assert [len(logp) for logp in tokens["logp"]] == [len(text) for text in tokens["text"]]


def test_some_sets_are_not_generated_from(parts: Parts) -> None:
    model, tokenizer, prompt, task = parts
    quiet = dataclasses.replace(task, probes=tuple(dataclasses.replace(p, generate=False) for p in task.probes[:2]))
    scores = Scoring().score(model, tokenizer, prompt, quiet)
    assert scores["generations"].empty
    assert list(scores["generations"].columns) == GENERATIONS
    loud = dataclasses.replace(task, probes=(quiet.probes[0], task.probes[1]))
    assert set(Scoring().score(model, tokenizer, prompt, loud)["generations"]["probe"]) == {"world"}


def test_gradients_of_forget_and_holdout_rows(parts: Parts) -> None:
    gradients = Scoring(generate=False, gradients=True).score(*parts)["gradients"]
    assert list(gradients.columns) == GRADIENTS
    assert gradients["aim"].tolist() == ["forget"] * 2 + ["holdout"] * 2
    assert gradients["cluster"].tolist() == ["x", "y", "", ""]
    assert (gradients["gradnorm"] > 0).all()


def test_paraphrased_questions_where_there_are_any(parts: Parts) -> None:
    canonical, paraphrased = (Scoring(question=q).score(*parts) for q in ("canonical", "paraphrased"))
    assert paraphrased["generations"]["question"].tolist() == ["What place?", "What month?", "Who?", "Why?", "How?"]
    same = [
        len(a) == len(b) and np.allclose(a, b, atol=1e-5)
        for a, b in zip(canonical["tokens"]["logp"], paraphrased["tokens"]["logp"], strict=True)
    ]
    assert same == [probe != "forget" for probe in canonical["tokens"]["probe"]]


def test_limit(parts: Parts) -> None:
    scores = Scoring(limit=1, gradients=True).score(*parts)
    for table in (scores["tokens"], scores["generations"], scores["gradients"]):
        assert set(table["item"]) == {0}


def test_progress_counts_likelihoods_generations_and_gradients(parts: Parts) -> None:
    done: list[int] = []
    Scoring(gradients=True, token_budget=100).score(*parts, done.append)
    assert sum(done) == 5 + 5 + 4


@pytest.mark.parametrize("training", [True, False])
def test_scores_in_eval_mode_and_puts_the_mode_back(parts: Parts, training: bool) -> None:
    model = parts[0]
    expected = Scoring(generate=False).score(*parts)["tokens"]["logp"]
    model.config.attention_dropout = 0.9
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.9
    model.train(training)
    found = Scoring(generate=False).score(*parts)["tokens"]["logp"]
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected), atol=1e-5)
    assert model.training == training


def test_mode_is_put_back_after_an_error(parts: Parts) -> None:
    model, tokenizer, prompt, task = parts
    model.train()
    with pytest.raises(UserError, match="no answer token"):
        Scoring().score(model, tokenizer, dataclasses.replace(prompt, max_tokens=5), task)
    assert model.training


def save(scores: Tables, folder: Path) -> None:
    for name, table in scores.items():
        Explained(table).save(folder / f"{name}.parquet")


def test_tables_survive_the_disk(parts: Parts, tmp_path: Path) -> None:
    scores = Scoring(gradients=True).score(*parts)
    save(scores, tmp_path)
    loaded = load_tables(tmp_path)
    assert set(loaded) == {"tokens", "generations", "gradients"}
    for name, before in scores.items():
        after = loaded[name]
        assert list(before.columns) == list(after.columns)
        for column in before.columns:
            if column in ("logp", "hit", "mean", "var"):
                assert all(np.array_equal(a, b) for a, b in zip(before[column], after[column], strict=True))
            else:
                missing = before[column].isna()
                assert (missing == after[column].isna()).all()
                assert before[column][~missing].tolist() == after[column][~missing].tolist()


def test_probe_names(parts: Parts) -> None:
    scores = Scoring(generate=False).score(*parts)
    assert probe_names(scores) == ["forget", "world", "holdout"]
    assert probe_names(scores, "holdout", "forget") == ["forget", "holdout"]
    assert probe_names(scores, "retain") == []


def test_damaged_tables_are_refused(parts: Parts, tmp_path: Path) -> None:
    scores = Scoring().score(*parts)
    save(scores, tmp_path)
    scores["tokens"].drop(columns="zlib").to_parquet(tmp_path / "tokens.parquet")
    with pytest.raises(UserError, match=r"lacks the column.* zlib"):
        load_tables(tmp_path)
    (tmp_path / "tokens.parquet").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot read the table"):
        load_tables(tmp_path)


def test_only_what_changes_the_numbers_is_content() -> None:
    assert cache_key(Tokens(share_prefix=False)) == cache_key(Tokens())
    for change in (Tokens(mask_pad=True), Tokens(question="paraphrased")):
        assert cache_key(change) != cache_key(Tokens())
    assert cache_key(Generations(max_new_tokens=7)) != cache_key(Generations())


@pytest.mark.parametrize("scorer", [Tokens(), Generations(), Gradients()])
def test_configuration_holds_exactly_the_fields(scorer: Scorer) -> None:
    (name,) = scorer.tables
    config: Any = OmegaConf.load(conf_dir() / "evaluate" / f"{name}.yaml")
    assert build(config, "evaluate") == {name: scorer}
    assert list(config[name])[1:] == [field.name for field in dataclasses.fields(scorer)]  # type: ignore[arg-type]
    with pytest.raises(UserError, match=rf"evaluate\.{name}\.mask_pad"):
        build({name: {**config[name], "mask_pad": 3}}, "evaluate")


def test_the_configuration_is_checked_without_torch() -> None:
    code = (
        "import sys, unlearn.score.tokens, unlearn.score.generations, unlearn.score.gradients\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
