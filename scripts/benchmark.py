"""Time and peak memory of the package, with each of its speed levers on and off; the tables go into docs/benchmarks.md.

    python scripts/benchmark.py                                  the built-in tiny model
    python scripts/benchmark.py --model FOLDER --threads 2       SmolLM2-135M-Instruct: folder, .gguf file or hub id
    python scripts/benchmark.py --steps 4 --repeats 1 dataset.authors=20        smaller; any override of `unlearn run`

Each measurement is a process of its own. All variants run once, then all of them again, and so on, so that a slow spell
of the machine meets both sides of a comparison. A lever's two sides must compute the same numbers, or the script stops.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCRIPTS = Path(__file__).resolve().parent
PAGE = SCRIPTS.parent / "docs" / "benchmarks.md"

STEADY = (
    *("device=cpu", "method=npo", "tracker=none", "train.lr=1e-6", "train.warmup=0", "train.schedule=constant"),
    *("train.evaluate_at=[]", "train.checkpoint_seconds=1e9", "train.epochs=null"),
)
"""Steps of the default method with nothing between them, by which the weights hardly move: the losses of two variants
can be compared to the last step."""

ROOMS = (
    *("cli.hydra_app", "stages.pipeline", "models.loading", "training.loop", "training.plan", "training.reference"),
    *("score.likelihood", "score.generate", "metrics.evaluate", "report.page"),
)
REFUSED = {
    f"`unlearn run {mistake}`, which is refused": ["-m", "unlearn", "run", mistake]
    for mistake in ("method=nppo", "method.beta=-1")
}
STARTUP = {
    "`unlearn --help`": ["-m", "unlearn", "--help"],
    "`unlearn list`": ["-m", "unlearn", "list"],
    **REFUSED,
    "import of torch and of transformers' models": ["-c", "import torch; from transformers import PreTrainedModel"],
    "import of all that a run needs": ["-c", "; ".join(f"import unlearn.{room}" for room in ROOMS)],
}
"""Command lines of Python whose whole life is measured."""
FIRST_STEP = "`unlearn run` to the end of its first NPO step (reference models in the cache)"


@dataclass(frozen=True)
class Subject:
    """A model to measure.

    overrides: of the configuration. startup: further ones where only the way to the first step counts. steps, repeats:
    as many unless told otherwise. rows: forget rows of a step, beside as many retain rows.
    """

    name: str
    overrides: tuple[str, ...]
    startup: tuple[str, ...]
    steps: int
    repeats: int
    rows: int

    @classmethod
    def of(cls, model: str, cache: Path) -> Subject:
        """Return the tiny model, or a pretrained one, whose few scores are not worth keeping."""
        if model == "tiny":
            return cls("tiny", (), (), steps=36, repeats=3, rows=16)
        path = str(Path(model).expanduser().resolve()) if Path(model).expanduser().exists() else model
        places = tuple(f"{key}={json.dumps(path)}" for key in ("model.path", "model.original"))
        overrides = ("model=smollm2-135m", *places, "control_model=none", f"cache={cache}", "probe_limit=4")
        startup = ("probe_limit=1", "evaluate=[tokens]")
        return cls("pretrained", overrides, startup, steps=3, repeats=2, rows=4)


@dataclass(frozen=True)
class Lever:
    """One line of the table: `part` of the time of the variants with and without a lever.

    like: the variant whose numbers those of `off` must equal ("" where the order of rows differs by design).
    """

    text: str
    part: str
    on: str
    off: str
    like: str


TRAIN: dict[str, dict[str, Any]] = {
    "train": {},
    "train, no table": {"off": ["table"]},
    "train, two forwards": {"off": ["one_forward"]},
    "train, all logits": {"off": ["projection"]},
    "train, no buckets": {"off": ["buckets"]},
    "train, plain": {"off": ["table", "one_forward", "projection", "buckets"]},
    "train, lower half frozen": {"lower_half": "frozen"},
    "train, lower half zeroed": {"lower_half": "zeroed"},
    "train, masked": {"selected": 0.5},
}
SCORE: dict[str, dict[str, Any]] = {
    "score": {},
    "score, prompts repeated": {"off": ["shared_prompt"]},
    "score, pass per metric": {"off": ["one_pass"]},
    "score, all logits": {"off": ["projection"]},
    "score, file order": {"off": ["sorting"]},
    "score, plain": {"off": ["shared_prompt", "one_pass", "projection", "sorting"]},
}
LOCALIZE: dict[str, dict[str, Any]] = {
    "mask": {"what": "mask", "way": "streamed"},
    "mask, plain": {"what": "mask", "way": "plain"},
}
TRACE: dict[str, dict[str, Any]] = {
    "trace": {},
    "trace, nothing skipped": {"off": ["skips"]},
    "trace, plain": {"off": ["skips", "batches"]},
}
LEVERS = (
    Lever("NPO step: reference table", "steps", "train", "train, no table", "train"),
    Lever("NPO step: one forward", "steps", "train", "train, two forwards", "train"),
    Lever("NPO step: label projection", "steps", "train", "train, all logits", "train"),
    Lever("NPO step: length buckets", "steps", "train", "train, no buckets", ""),
    Lever("**NPO step: all four**", "steps", "train", "train, plain", "train, no buckets"),
    Lever(
        "NPO step, lower half masked: frozen means free",
        *("steps", "train, lower half frozen", "train, lower half zeroed", "train, lower half frozen"),
    ),
    Lever(
        "NPO step under a mask of half of all weights (on), and without (off)", "steps", "train, masked", "train", ""
    ),
    Lever("mask by score: selection alone", "selection", "mask", "mask, plain", "mask"),
    Lever("**mask by score: streamed gradients and radix select**", "mask", "mask", "mask, plain", "mask"),
    Lever("causal trace: no sites without effect", "trace", "trace", "trace, nothing skipped", "trace"),
    Lever("**causal trace: many sites in a forward, none without effect**", "trace", "trace", "trace, plain", "trace"),
    Lever("likelihoods: shared prompts", "likelihoods", "score", "score, prompts repeated", "score"),
    Lever("likelihoods: one pass for all metrics", "likelihoods", "score", "score, pass per metric", "score"),
    Lever("likelihoods: label projection", "likelihoods", "score", "score, all logits", "score"),
    Lever("likelihoods: length-sorted batches", "likelihoods", "score", "score, file order", "score"),
    Lever("likelihoods: all four", "likelihoods", "score", "score, plain", "score"),
    Lever("generation: length-sorted batches", "generation", "score", "score, file order", "score"),
    Lever("**full evaluation: all four**", "evaluation", "score", "score, plain", "score"),
)


Seconds = tuple[float, float]
WALL, CPU = 0, 1  # the two: wall time; CPU time of all threads


@dataclass
class Runs:
    """What the runs of one variant took, by part, their peak resident memory (MiB), and the result of the last."""

    seconds: dict[str, list[Seconds]] = field(default_factory=dict)
    peaks: list[float] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)

    def add(self, seconds: Mapping[str, Seconds], peak: float, result: dict[str, Any]) -> None:
        """Take in one more run."""
        for part, value in seconds.items():
            self.seconds.setdefault(part, []).append(value)
        self.peaks.append(peak)
        self.result = result

    def median(self, part: str, clock: int) -> float:
        """Median time of a part by one of the clocks, s."""
        return median(seconds[clock] for seconds in self.seconds[part])

    @property
    def peak(self) -> float:
        """Median of the peaks, MiB."""
        return median(self.peaks)


def main() -> None:
    """Measure, and put the tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="overrides of the configuration, as for `unlearn run`")
    parser.add_argument(
        "--model", default="tiny", help="tiny, or a folder, .gguf file or hub id (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, help="training steps of one measurement (default: 36 tiny, 3 pretrained)")
    parser.add_argument("--repeats", type=int, help="runs of every variant (default: 3 tiny, 2 pretrained)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each process (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=PAGE, help="page to put the tables into (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject.of(options.model, Path(folder) / "cache")
        steps, repeats = options.steps or subject.steps, options.repeats or subject.repeats
        sizes = (f"train.steps={steps}", f"train.batch_size={subject.rows}", f"train.retain_batch_size={subject.rows}")
        overrides = [*STEADY, *sizes, *subject.overrides, *options.overrides]
        model, runs, load = measure(subject, overrides, repeats, options.threads, Path(folder))
    text = [
        f"{model['family']}, {model['weights'] / 1e6:,.1f} M weights, vocabulary of {model['vocabulary']:,} tokens. "
        f"{steps} steps of {subject.rows} forget and {subject.rows} retain rows; {repeats} repeats; {options.threads} "
        f"thread(s) of {os.cpu_count()} cores, load average up to {load:.1f}; float32; torch {version('torch')}, "
        f"transformers {version('transformers')}.",
        "",
        *once(model, runs),
        "",
        *levers(runs, steps),
    ]
    put(options.out, subject.name, text)
    if subject.name == "tiny":
        print(
            "only the tiny model was measured: --model FOLDER (or a .gguf file) measures a pretrained one",
            file=sys.stderr,
        )


def measure(
    subject: Subject, overrides: Sequence[str], repeats: int, threads: int, folder: Path
) -> tuple[dict[str, Any], dict[str, Runs], float]:
    """Return what the model is like, the runs of every variant by name, and the highest load average that was seen."""
    first_step = [*overrides, *subject.startup]
    common = {"overrides": first_step, "threads": threads}
    model = process(job("bench_setup.py", **common), threads)[2]
    common = {"overrides": list(overrides), "threads": threads, "path": model["path"]}
    variants = {name: job("bench_train.py", **common, **options) for name, options in TRAIN.items()}
    variants |= {name: job("bench_score.py", **common, **options) for name, options in SCORE.items()}
    variants |= {name: job("bench_tracing.py", **common, **options) for name, options in TRACE.items()}
    common["rows"] = subject.rows
    variants |= {name: job("bench_localize.py", **common, **options) for name, options in LOCALIZE.items()}
    variants[FIRST_STEP] = [str(SCRIPTS / "bench_first_step.py"), "run", *first_step, "stages=[prepare,unlearn]"]
    if subject.name == "tiny":
        variants |= STARTUP
    runs, load = {name: Runs() for name in variants}, 0.0
    for repeat in range(repeats):
        for name, arguments in variants.items():
            output = [f"output={folder / f'run-{repeat}'}"] if name == FIRST_STEP else []
            seconds, peak, result = process([*arguments, *output], threads, status=2 if name in REFUSED else 0)
            runs[name].add({"process": seconds, **result.get("seconds", {})}, peak, result)
            print(f"{repeat + 1}/{repeats} {name}: {seconds[0]:.1f} s, {peak:.0f} MiB", file=sys.stderr)
            load = max(load, os.getloadavg()[0])
        check(runs)
    return model, runs, load


def job(script: str, **options: Any) -> list[str]:
    """Return the arguments that make Python run a script of this folder with these options."""
    return [str(SCRIPTS / script), json.dumps(options)]


def process(arguments: Sequence[str], threads: int, status: int = 0) -> tuple[Seconds, float, dict[str, Any]]:
    """Run Python in a process of its own: its seconds from start to end, peak resident memory (MiB) and result.

    The result is its last line, where that is JSON. The peak is the kernel's, in which a child starts from the
    peak of its parent: this script must stay small. Ends the script where the process ends with another status.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryFile("w+") as log:
        started = time.perf_counter()
        child = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=subprocess.STDOUT, env=environment)
        _, ended, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
        child.returncode = os.waitstatus_to_exitcode(ended)
        log.seek(0)
        lines = log.read().splitlines() or [""]
    if child.returncode != status:
        sys.exit("\n".join([*lines[-20:], f"{arguments[0]} ended with status {child.returncode}"]))
    peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return seconds, peak, json.loads(lines[-1]) if lines[-1].startswith("{") else {}


def check(runs: Mapping[str, Runs]) -> None:
    """End the script where a lever changes what is computed. Greedy answers may differ now and then, by rounding."""
    for lever in LEVERS:
        if not lever.like:
            continue
        mine, other = runs[lever.off].result, runs[lever.like].result
        pairs = list(zip(mine["numbers"], other["numbers"], strict=True))
        if worst := [pair for pair in pairs if not math.isclose(*pair, rel_tol=1e-3, abs_tol=1e-2)]:
            sys.exit(f"'{lever.off}' and '{lever.like}' compute different numbers, as {worst[0]}")
        texts = list(zip(mine.get("texts", ()), other.get("texts", ()), strict=True))
        if sum(a == b for a, b in texts) < 0.9 * len(texts):
            sys.exit(f"'{lever.off}' and '{lever.like}' generate different answers")


def once(model: Mapping[str, Any], runs: Mapping[str, Runs]) -> list[str]:
    """Return the table of what happens once in a run, all levers on. `model`: what bench_setup.py says of it."""
    score, train = runs["score"], runs["train"]
    probes, candidates = (f"{score.result[key]:,}" for key in ("rows", "candidates"))
    lines = [(name, runs[name], "process") for name in (*STARTUP, FIRST_STEP) if name in runs]
    lines += [
        (f"reference table of {train.result['rows']:,} rows", train, "table"),
        (f"full evaluation: {probes} probes with {candidates} candidate answers", score, "evaluation"),
        *[(f"of which {part}", score, part) for part in score.seconds if part not in ("process", "evaluation")],
    ]
    rows = []
    if STARTUP.keys() <= runs.keys():
        rows.append(
            f"| training and scoring the original model (then cached) | {model['seconds']:.2f} | {model['peak']:,.0f} |"
        )
    for text, run, part in lines:
        peak = f"{run.peak:,.0f}" if part in ("process", "evaluation") else ""
        rows.append(f"| {text} | {run.median(part, WALL):.2f} | {peak} |")
    return ["| once | wall time, s | peak memory, MiB |", "|---|---:|---:|", *rows]


def levers(runs: Mapping[str, Runs], steps: int) -> list[str]:
    """Return the table of levers on and off: medians; of the ratio of CPU times also the range over the repeats."""
    rows = []
    for lever in LEVERS:
        on, off = runs[lever.on], runs[lever.off]
        scale, form = (1000 / steps, "{:,.0f} ms") if lever.part == "steps" else (1.0, "{:,.2f} s")
        times = [form.format(run.median(lever.part, CPU) * scale) for run in (on, off)]
        pairs = list(zip(on.seconds[lever.part], off.seconds[lever.part], strict=True))
        wall, cpu = (sorted(b[clock] / a[clock] for a, b in pairs) for clock in (WALL, CPU))
        ratios = [f"**{median(cpu):.2f}** ({cpu[0]:.2f} to {cpu[-1]:.2f})", f"{median(wall):.2f}"]
        peaks = [f"{on.peak:,.0f}", f"{off.peak:,.0f}", f"**{off.peak / on.peak:.2f}**"]
        rows.append(f"| {' | '.join([lever.text, *times, *ratios, *peaks])} |")
    head = "| lever | CPU time on | CPU time off | off / on | wall off / on | peak on, MiB | peak off, MiB | off / on |"
    return [head, "|---|---:|---:|---:|---:|---:|---:|---:|", *rows]


def put(page: Path, name: str, lines: Sequence[str]) -> None:
    """Replace what stands between the page's markers of that name; where it has none, they go at its end."""
    start, end = f"<!-- measured: {name} -->", f"<!-- end: {name} -->"
    text = page.read_text() if page.exists() else ""
    if start not in text:
        text += f"\n{start}\n{end}\n"
    before, _, rest = text.partition(start)
    page.write_text("\n".join([before + start, "", *lines, "", end + rest.partition(end)[2]]))


if __name__ == "__main__":
    main()
