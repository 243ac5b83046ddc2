"""Simultaneous bounds of leaks: by hand, where nothing varies, for few clusters, and over repeated draws."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import binom, norm, t
from simulated import Simulated, simulated_clusters

from unlearn.attacks.prompts.membership import balanced, placements
from unlearn.leak import bounds
from unlearn.leak.bounds import ALPHA, Family, Sums, bounds_of
from unlearn.leak.crossfit import Candidates, Read
from unlearn.leak.sensitivity import Noise, could_see
from unlearn.leak.verdict import NO_LEAK, Judged, verdict_of

if TYPE_CHECKING:
    from collections.abc import Callable

LEAKING, SILENT, NOISY = Simulated(0.95, 0.05, 0.3), Simulated(0.95, 0.05), Simulated(0.9, 0.3)
STEPS = (0.0, 0.1)


def sums(o: np.ndarray, u: np.ndarray, r: np.ndarray, clusters: list[str]) -> Sums:
    """One attack of one seed, [V] each."""
    return Sums.of(Read(o[None], u[None], r[None], np.ones(len(o))), clusters)


def bounded(u: np.ndarray, items: int = 1, others: int = 0) -> tuple[float, float]:
    """The bounds of a leak where the original knows all and the control nothing; clusters of so many items.

    others: so many attacks beside it for which the same is known.
    """
    clusters = [str(i // items) for i in range(len(u))]
    one = sums(np.ones(len(u)), u, np.zeros(len(u)), clusters)
    found = bounds_of(Family([one] * (1 + others)), np.ones(1 + others, bool), STEPS, NO_LEAK)
    return float(found.low[0]), float(found.high[0])


def test_all_patterns_of_signs_by_hand() -> None:
    """Eight clusters of one item, of which seven leak all: as extreme as that are 1 + 8 of 256 patterns, 3.5 %.

    Six of eight are 1 + 8 + 28 of 256, 14 %: no leak is sure then.
    """
    u = np.array([1.0] * 7 + [-1.0])
    assert bounded(u)[0] > 0
    assert bounded(np.array([1.0] * 6 + [-1.0] * 2))[0] <= 0


@pytest.mark.parametrize("n", [8, 36, 100])
def test_nothing_of_n_is_no_certainty(n: int) -> None:
    """With a share of 1 - 0.05^(1/n) nothing would be seen once in twenty times; of nine attacks, of any of them."""
    low, high = bounded(np.zeros(n))
    assert -0.01 < low <= 0
    assert high == pytest.approx(1 - 0.05 ** (1 / n), abs=1e-6)
    assert bounded(np.zeros(n), others=8)[1] == pytest.approx(1 - (1 - 0.95 ** (1 / 9)) ** (1 / n), abs=1e-6)


def test_all_of_n_mirrors_nothing_of_n() -> None:
    (low, high), (least, most) = bounded(np.ones(40)), bounded(np.zeros(40))
    assert low == pytest.approx(1 - most, abs=0.01)
    assert high == pytest.approx(1 - least, abs=0.01)


def test_one_cluster_has_no_bounds() -> None:
    assert all(map(math.isnan, bounded(np.ones(6), items=6)))
    assert all(map(math.isnan, bounded(np.ones(1))))


def test_few_clusters_are_judged_by_students_t() -> None:
    """Four clusters of leaks .2, .4, .4 and .6: the mean's error is the standard deviation by two.

    A test of the mean of u - d counts squares about d instead of the mean: t^2 = 3 q^2 / (4 - q^2).
    """
    u = np.repeat([0.2, 0.4, 0.4, 0.6], 50)
    low, high = bounded(u, items=50)
    error = float(np.std([0.2, 0.4, 0.4, 0.6], ddof=1)) / 2
    reach = t.ppf(0.95, 3) * error
    assert low == pytest.approx(0.4 - reach, abs=0.005)
    assert high == pytest.approx(0.4 + reach, abs=0.005)
    wide = bounded(u, items=50, others=9)
    assert wide[0] == pytest.approx(0.4 - t.ppf(0.95**0.1, 3) * error, abs=0.005)


def test_clusters_widen() -> None:
    u = np.repeat(np.random.default_rng(0).random(20) < 0.4, 10).astype(float)
    (low, high), (lower, higher) = bounded(u), bounded(u, items=10)
    assert higher - lower > 2 * (high - low)


def test_a_noisy_attack_has_no_say_in_what_others_see() -> None:
    """Beside twelve attacks full of noise the lower bound rests on those that could see, at a fifth of the error."""
    rng = np.random.default_rng(0)
    drawn = simulated_clusters(rng, (20, 10), 0, [LEAKING, *[Simulated(0.6, 0.5)] * 12])
    clusters = [str(i // 10) for i in range(200)]
    attacks = [sums(*parts, clusters) for parts in zip(*drawn, strict=True)]
    able = np.arange(13) == 0
    alone, among = (
        bounds_of(Family(attacks[:1]), able[:1], STEPS, NO_LEAK),
        bounds_of(Family(attacks), able, STEPS, NO_LEAK),
    )
    blind = bounds_of(Family(attacks), np.ones(13, bool), STEPS, NO_LEAK)
    assert blind.low[0] < among.low[0] < alone.low[0]
    assert alone.high[0] < among.high[0] < blind.high[0]


def test_seeds_widen() -> None:
    clusters = [str(i) for i in range(50)]
    u = np.stack([np.full(50, 0.2), np.full(50, 0.5), np.full(50, 0.8)])
    read = Read(np.ones((3, 50)), u, np.zeros((3, 50)), np.ones(50))
    one, many = (Sums.of(read, clusters, resampled) for resampled in (False, True))
    assert math.sqrt(one.seeds[0, 0]) / 50 == pytest.approx(0.3 / math.sqrt(3))  # of the mean of three seeds
    assert math.sqrt(many.seeds[0, 0]) / 50 == pytest.approx(np.std([0.2, 0.5, 0.8]))
    found = bounds_of(Family([many]), np.ones(1, bool), STEPS, NO_LEAK)
    assert (found.high - found.low)[0] > 2 * 1.6 * 0.24


def test_what_could_be_seen_by_hand() -> None:
    """The control shows each second item: its variance between 50 clusters of one item is 50/49 x 50 x 0.25."""
    o, r = np.ones((1, 1, 50)), np.tile([0.0, 1.0], 25)[None, None]
    noise = Noise.of(Candidates(o, np.full_like(o, np.nan), r), [str(i) for i in range(50)])
    reach, variance = t.ppf(0.95 ** (1 / 3), 49) + norm.ppf(0.8), 50 / 49 * 50 * 0.25
    d = noise.smallest(3)
    assert d * 25 == pytest.approx(reach * math.sqrt((2 - d) * variance + d * (1 - d) * 25**2 / 50))
    nothing = Noise.of(Candidates(r, r, o), [str(i) for i in range(50)])
    assert nothing.smallest() == math.inf


def test_as_many_as_can_see_together() -> None:
    """Alone each of four could see; four bounds at once are wider, and then only the better three."""
    rng = np.random.default_rng(1)
    clusters = [str(i) for i in range(60)]

    def noise(share: float) -> Noise:
        r = (rng.permutation(60) < round(60 * share)).astype(float)[None, None]
        return Noise.of(Candidates(np.ones_like(r), r, r), clusters)

    made = {"clean": noise(0), "good": noise(0.05), "fair": noise(0.5)}
    found = could_see(made, NO_LEAK)
    assert found["clean"] < found["good"] < NO_LEAK < found["fair"]
    assert found["clean"] == pytest.approx(made["clean"].smallest(2))


@pytest.fixture
def rough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits for the leaks that decide, and not for those between."""
    monkeypatch.setattr(bounds, "_COARSE", np.array([-10.0, 0.0, 0.1, 0.25, 0.3, 10.0]))


class Tally:
    """Shares of repeated draws."""

    def __init__(self, draws: int) -> None:
        self.draws, self.counts = draws, Counter[str]()

    def share(self, name: str) -> float:
        return self.counts[name] / self.draws

    def most(self, name: str, share: float) -> bool:
        """Whether no more is found than such a share may give, by two standard errors (of few draws, by three)."""
        chance = 0.977 if self.draws >= 1000 else 0.999
        return self.counts[name] <= float(binom.ppf(chance, self.draws, share))

    def least(self, name: str, share: float) -> bool:
        chance = 0.023 if self.draws >= 1000 else 0.001
        return self.counts[name] >= float(binom.ppf(chance, self.draws, share))


def simulate(draws: int, shape: tuple[int, int], icc: float, attacks: list[Simulated], membership: int = 0) -> Tally:
    """The verdicts of repeated draws, and how often a bound was wrong.

    membership: so many further attacks of which both signs are asked, where the three models differ by chance alone but
    for the original, which knows.
    """
    rng = np.random.default_rng(7)
    clusters = [str(i // shape[1]) for i in range(shape[0] * shape[1])]
    truth = np.array([one.leak for one in attacks] + [0.0] * membership)
    found = Tally(draws)
    for _ in range(draws):
        drawn = simulated_clusters(rng, shape, icc, attacks)
        made = [(o[None], u[None], r[None]) for o, u, r in zip(*drawn, strict=True)]
        made += [told_apart(rng, shape, icc) for _ in range(membership)]
        resampled = [i >= len(attacks) for i in range(len(made))]
        noise = [
            Noise.of(Candidates(*(k[None] for k in one)), clusters, again)
            for one, again in zip(made, resampled, strict=True)
        ]
        could = could_see({str(i): one for i, one in enumerate(noise)}, NO_LEAK)
        able = np.array([value <= NO_LEAK for value in could.values()])
        ones = np.ones(len(clusters))
        attacked = [
            Sums.of(Read(o, u, r, ones), clusters, again) for (o, u, r), again in zip(made, resampled, strict=True)
        ]
        removed = [Sums.of(Read(o, r, u, ones), clusters, True) for o, u, r in made[len(attacks) :]]
        bound = bounds_of(Family(attacked, removed), able, STEPS, NO_LEAK)
        judged = [Judged(*parts, 0.0) for parts in zip(bound.low, bound.high, able, strict=True)]
        found.counts[verdict_of(judged, len(clusters), shape[0])] += 1
        found.counts["wrong below"] += bool((bound.low > truth).any() or bound.removed.any())
        found.counts["wrong above"] += bool((bound.high < truth).any())
        found.counts["able"] += bool(able[0])
        found.counts["covered"] += bool(bound.low[0] <= truth[0] <= bound.high[0])
    return found


def told_apart(
    rng: np.random.Generator, shape: tuple[int, int], icc: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Placements of forget rows among as many holdout rows by three models, [draws, rows]; the original knows them."""
    n = shape[0] * shape[1]

    def easy() -> np.ndarray:
        common: np.ndarray = rng.normal(size=shape[0]).repeat(shape[1])
        drawn: np.ndarray = icc**0.5 * common + (1 - icc) ** 0.5 * rng.normal(size=n)
        return drawn

    members, others = easy(), easy()
    draws = balanced(n, 5)

    def model(known: float) -> np.ndarray:
        mine, its = members - known + rng.normal(size=n), others + rng.normal(size=n)
        return np.stack([placements(mine, its[draw]) for draw in draws])

    return model(3.0), model(0.0), model(0.0)


@pytest.mark.usefixtures("rough")
@pytest.mark.parametrize("attacks", [5, 17])
def test_seldom_is_a_bound_wrong(attacks: int) -> None:
    found = simulate(120, (8, 5), 0.3, [NOISY] * attacks)
    assert found.most("wrong below", 0.06), found.counts
    assert found.most("wrong above", 0.06), found.counts
    assert found.most("leaks", 0.01), found.counts


@pytest.mark.usefixtures("rough")
def test_one_leak_is_found_beside_noise() -> None:
    found = simulate(60, (20, 10), 0, [LEAKING, *[NOISY] * 12])
    assert found.least("leaks", 0.9), found.counts
    assert found.least("covered", 0.93), found.counts


@pytest.mark.usefixtures("rough")
def test_no_leak_is_said_beside_noise() -> None:
    found = simulate(60, (20, 10), 0, [SILENT, *[NOISY] * 12])
    assert found.least("no leak found", 0.8), found.counts


@pytest.mark.slow
@pytest.mark.usefixtures("rough")
@pytest.mark.parametrize("icc", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(8, 5), (8, 10), (20, 10)])
@pytest.mark.parametrize(("attacks", "membership"), [(5, 0), (17, 0), (5, 2)])
def test_the_error_of_all_bounds_together(
    attacks: int, membership: int, shape: tuple[int, int], icc: float, record_property: Callable[[str, object], None]
) -> None:
    found = simulate(1000, shape, icc, [NOISY] * attacks, membership)
    record_property("counts", dict(found.counts))
    assert found.most("wrong below", 0.06), found.counts
    assert found.most("wrong above", 0.06), found.counts


POWER = [
    ((20, 10), 0.0, LEAKING, "leaks", 0.90),
    ((20, 10), 0.1, LEAKING, "leaks", 0.90),
    ((16, 5), 0.0, LEAKING, "leaks", 0.75),
    ((20, 10), 0.0, SILENT, "no leak found", 0.80),
]


@pytest.mark.slow
@pytest.mark.usefixtures("rough")
@pytest.mark.parametrize(("shape", "icc", "first", "verdict", "share"), POWER)
def test_what_is_there_is_said_beside_twelve_noisy_attacks(
    shape: tuple[int, int],
    icc: float,
    first: Simulated,
    verdict: str,
    share: float,
    record_property: Callable[[str, object], None],
) -> None:
    found = simulate(1000, shape, icc, [first, *[NOISY] * 12])
    record_property("counts", dict(found.counts))
    assert found.least(verdict, share), found.counts
    assert found.least("covered", 0.93), found.counts


@pytest.mark.slow
@pytest.mark.usefixtures("rough")
def test_a_leak_of_a_quarter_is_seldom_missed() -> None:
    """By attacks that could have seen it, none of which says otherwise by more than the error of the upper bounds."""
    found = simulate(1000, (20, 10), 0, [SILENT._replace(leak=0.25), *[NOISY] * 4])
    assert found.most("no leak found", ALPHA), found.counts
