from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearn.data.prompt import Encoded
from unlearn.models.batches import IGNORE, micro_batches, pad_rows

rows_strategy = st.lists(
    st.tuples(st.integers(1, 6), st.integers(1, 9)).map(lambda s: Encoded(tuple(range(3, 3 + sum(s))), s[0])),
    min_size=6,
    max_size=20,
)


def test_padding_marks_labels_and_attends_to_eos() -> None:
    ids, mask, labels = pad_rows([Encoded((5, 6, 7, 1), 2), Encoded((8, 1), 1)])
    assert ids.tolist() == [[5, 6, 7, 1], [8, 1, 0, 0]]
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert labels.tolist() == [[IGNORE, IGNORE, 7, 1], [IGNORE, 1, IGNORE, IGNORE]]


@settings(max_examples=50, deadline=None)
@given(rows=rows_strategy, budget=st.integers(1, 80), world=st.integers(1, 4))
def test_every_row_is_seen_once_under_the_budget_with_step_totals(rows: list[Encoded], budget: int, world: int) -> None:
    fifth = len(rows) // 5
    names = ("forget", "refusal", "injected", "retain")
    step = {name: list(range(i * fifth, (i + 1) * fifth)) for i, name in enumerate(names)}
    step["fluency"] = list(range(4 * fifth, len(rows)))
    table = {row: float(row) for row in step["forget"]}
    seen: dict[str, list[tuple[int, ...]]] = {name: [] for name in step}
    beside = {"refusal": "forget", "injected": "forget"}
    shards = [micro_batches(rows, step, budget, beside, table, (rank, world)) for rank in range(world)]
    assert len({len(batches) for batches in shards}) == 1
    assert sum(batch.share for batches in shards for batch in batches) == pytest.approx(1)
    for batches in shards:
        assert batches
        for batch in batches:
            assert set(batch.segments) == set(step)
            indivisible = len(batch.input_ids) <= 3
            assert batch.input_ids.numel() <= budget or indivisible
            for name, segment in batch.segments.items():
                assert segment.total_rows == len(step[name])
                assert segment.total_tokens == sum(len(rows[r].ids) - rows[r].n_prompt for r in step[name])
                for i in range(segment.start, segment.stop):
                    seen[name].append(tuple(batch.input_ids[i][batch.attention_mask[i].bool()].tolist()))
            forget = batch.segments["forget"]
            for name in ("refusal", "injected"):
                paired = batch.segments[name]
                assert paired.stop - paired.start == forget.stop - forget.start
            if forget.stop > forget.start:
                assert forget.reference_nll is not None
                assert len(forget.reference_nll) == forget.stop - forget.start
    for name, members in step.items():
        assert sorted(seen[name]) == sorted(rows[r].ids for r in members)


def test_reference_values_follow_their_rows() -> None:
    rows = [Encoded(tuple(range(2, 2 + n)), 1) for n in (9, 3, 6)]
    (batch,) = micro_batches(rows, {"forget": [0, 1, 2]}, 1000, reference_nll={0: 0.5, 1: 1.5, 2: 2.5})
    reference = batch.segments["forget"].reference_nll
    assert reference is not None
    lengths = batch.attention_mask.sum(1).tolist()
    assert {n: value for n, value in zip(lengths, reference.tolist(), strict=True)} == {9: 0.5, 3: 1.5, 6: 2.5}
    assert torch.is_floating_point(reference)


def test_long_rows_go_apart_from_many_short_ones() -> None:
    """Beside 24 rows of 10 tokens a row of 100 would bring 2,160 tokens of padding; beside 4 of them, only 360."""
    short, long = Encoded(tuple(range(10)), 5), Encoded(tuple(range(100)), 1)
    for count, widths in ((24, [10, 100]), (4, [100])):
        rows = [short] * count + [long] * 3
        step = {"retain": list(range(count)), "fluency": list(range(count, count + 3))}
        assert [batch.input_ids.shape[1] for batch in micro_batches(rows, step, 10_000)] == widths
