"""Folds: a partition, of about the same sizes, with clusters whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unlearn.attacks.items import Item
from unlearn.attacks.setting.folds import split_folds
from unlearn.data.task import Question


def items(*clusters: str) -> list[Item]:
    return [Item(i, Question("q", "a", cluster=cluster)) for i, cluster in enumerate(clusters)]


@given(
    st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=40), st.integers(2, 6), st.booleans(), st.integers(0, 3)
)
def test_every_item_is_dealt_once_and_no_fold_is_empty(names: list[str], folds: int, whole: bool, seed: int) -> None:
    dealt = split_folds(items(*names), folds, "across_cluster" if whole else "within_cluster", seed)
    assert sorted(item.index for fold in dealt for item in fold) == list(range(len(names)))
    assert all(dealt)
    assert len(dealt) == min(folds, len(names))
    sizes = sorted(map(len, dealt))
    if whole and len(set(names)) >= folds:
        owners = [{item.probe.cluster for item in fold} for fold in dealt]
        assert sum(map(len, owners)) == len(set(names))  # no cluster is in two
        assert sizes[-1] - sizes[0] <= max(names.count(name) for name in names)
    else:
        assert sizes[-1] - sizes[0] <= 1


def test_the_seed_decides() -> None:
    names = [f"c{i % 8}" for i in range(40)]
    assert split_folds(items(*names), 4, "across_cluster", 0) == split_folds(items(*names), 4, "across_cluster", 0)
    assert split_folds(items(*names), 4, "across_cluster", 0) != split_folds(items(*names), 4, "across_cluster", 1)


def test_items_without_a_cluster_are_clusters_of_their_own() -> None:
    assert sorted(map(len, split_folds(items("", "", "", ""), 2, "across_cluster", 0))) == [2, 2]
