"""Masks of several runs against each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from unlearn.report.compare import compare
from unlearn.report.folder import Run, read_run
from unlearn.report.overlap import Overlaps, overlap, overlaps
from unlearn.runtime.errors import UserError

MakeRun = Callable[..., Path]
Localize = Callable[..., Any]
UP, DOWN, EMBED = (f"model.{n}.weight" for n in ("layers.0.mlp.up_proj", "layers.2.mlp.down_proj", "embed_tokens"))


def _read(*folders: Path) -> list[Run]:
    return [read_run(folder) for folder in folders]


def _found(*names: str, folders: list[Path]) -> Overlaps:
    return overlaps(_read(*folders), names)


def test_by_hand(make_run: MakeRun, localize: Localize) -> None:
    folders = [make_run(name) for name in "abcd"]
    localize(folders[0], {UP: [0, 1, 2, 3, 4, 5]})
    localize(folders[1], {UP: [4, 5, 6, 7]})
    localize(folders[2], {DOWN: [0, 1, 2, 3], UP: [0]})
    found = _found("a", "b", "c", "d", folders=folders)  # the last has no mask
    assert found.names == ["a", "b", "c"]
    assert found.fractions == [0.3, 0.2, 0.25]
    assert np.allclose(found.iou, [[1, 2 / 8, 1 / 10], [2 / 8, 1, 0], [1 / 10, 0, 1]])
    # .3 * .2 / (.5 - .06), .3 * .25 / (.55 - .075), .2 * .25 / (.45 - .05)
    chance = [0.06 / 0.44, 0.075 / 0.475, 0.05 / 0.4]
    assert np.allclose(found.chance[np.triu_indices(3, 1)], chance)
    assert np.allclose(found.chance, found.chance.T)
    assert found.rows()[0] == ("a", "30.0%", ["1", "0.250 (0.136)", "0.100 (0.158)"])


def test_chance_is_what_random_masks_share() -> None:
    rng = np.random.default_rng(0)
    first, second = (np.argsort(rng.random(20_000)) < count for count in (6000, 10_000))
    f, g = 0.3, 0.5
    assert (first & second).sum() / (first | second).sum() == pytest.approx(f * g / (f + g - f * g), abs=0.01)


def test_other_models_are_not_compared(make_run: MakeRun, localize: Localize) -> None:
    folders = [make_run(name) for name in "abc"]
    localize(folders[0], {UP: [0]})
    localize(folders[1], {UP: [0]}, shapes={UP: (12,)})
    alone = _found("a", "b", "c", folders=folders)
    assert not alone.any
    assert np.isnan(alone.iou[0, 1])
    assert alone.rows()[0][2] == ["1", "–"]
    localize(folders[2], {UP: [0, 1]})
    found = _found("a", "b", "c", folders=folders)
    assert found.any
    assert found.iou[0, 2] == 0.5
    assert np.isnan(found.iou[1, 2])
    image: Any = overlap(found).axes[0].images[0].get_array()
    assert np.array_equal(np.ma.filled(image, np.nan), found.iou, equal_nan=True)


def test_alike_masks_are_taken_once_others_get_their_seeds(make_run: MakeRun, localize: Localize) -> None:
    folders = [make_run(f"run{i}", seed=seed) for i, seed in enumerate((0, 0, 1, 0))]
    for folder, chosen in zip(folders, ([0, 1], [0, 1], [1, 2], [0, 1]), strict=True):
        localize(folder, {UP: chosen})
    found = _found("wagle", "wagle", "wagle", "snip", folders=folders)
    assert found.names == ["wagle, seed 0", "wagle, seed 1", "snip"]
    assert np.allclose(found.iou[0], [1, 1 / 3, 1])  # two localizers with one mask both stay
    localize(folders[1], {UP: [7]})
    assert _found("wagle", "wagle", "wagle", "snip", folders=folders).names[:2] == ["wagle, run0", "wagle, run1"]


def test_a_lost_mask_is_left_out_a_damaged_one_is_an_error(make_run: MakeRun, localize: Localize) -> None:
    folders = [make_run("a"), make_run("b")]
    for folder in folders:
        localize(folder, {UP: [0, 1]})
    (folders[0] / "localize/mask.safetensors").unlink()
    assert _found("a", "b", folders=folders).names == ["b"]
    path = folders[1] / "localize/mask.safetensors"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match=r"cannot read the mask .*mask\.safetensors"):
        _found("a", "b", folders=folders)


def test_in_the_comparison(make_run: MakeRun, localize: Localize, tmp_path: Path) -> None:
    folders = [make_run("a"), make_run("b"), make_run("c", seed=1), make_run("d", method={"beta": 0.7})]
    localize(folders[0], {UP: [0, 1, 2, 3, 4, 5]}, select=0.3)
    localize(folders[1], {UP: [4, 5, 6, 7]}, select=0.2)
    localize(folders[2], {UP: [5, 6, 7, 8]}, select=0.2)
    out = tmp_path / "out"
    compare(folders, out)
    csv = pd.read_csv(out / "compare.csv")
    assert dict(zip(csv["folder"].fillna(csv["kind"]), csv["selected"], strict=True)) == {
        "original": pytest.approx(np.nan, nan_ok=True),
        "control": pytest.approx(np.nan, nan_ok=True),
        "pooled": 0.2,
        str(folders[0]): 0.3,
        str(folders[1]): 0.2,
        str(folders[2]): 0.2,
        str(folders[3]): pytest.approx(np.nan, nan_ok=True),
    }
    html, md = (out / "compare.html").read_text(), (out / "compare.md").read_text()
    names = ["wagle select=0.3", "wagle select=0.2, seed 0", "wagle select=0.2, seed 1"]
    for text in (html, md):
        assert all(name in text for name in names)
        assert "0.250 (0.136)" in text
        assert "Overlaps between masks" in text
    assert "| wagle select=0.3 | 30.0% | 1 | 0.250 (0.136) | 0.111 (0.136) |" in md
    assert (out / "figures/overlaps.svg").exists()
    assert "figures/overlaps.svg" in md
    assert "nan" not in md
    assert ">nan<" not in html


def test_without_masks_there_is_nothing_about_them(make_run: MakeRun, localize: Localize, tmp_path: Path) -> None:
    compare([make_run("a"), make_run("b", seed=1)], tmp_path / "none")
    one = make_run("c")
    localize(one, {UP: [0, 1, 2]})
    compare([one, make_run("d")], tmp_path / "one")
    for name in ("none", "one"):
        text = (tmp_path / name / "compare.html").read_text()
        assert "Overlaps" not in text
        assert not (tmp_path / name / "figures/overlaps.svg").exists()
        assert ("15.0%" in text) == (name == "one")
