"""Quantisation: rounding the weights undoes changes that are smaller than a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import MinLen

from unlearn.attacks.base import AttackResult, AttackSetting, Inapplicable, Threat
from unlearn.attacks.weights.changes import ChangedModel, Visit, evaluate_variants
from unlearn.attacks.weights.number_formats import Format, quantised
from unlearn.runtime.explained import Chart, Explained

if TYPE_CHECKING:
    import pandas as pd

    from unlearn.data.task import Task
    from unlearn.models.base import RunSetting
    from unlearn.models.subject import References, Subject


@dataclass(frozen=True)
class Quantize:
    """Compress the released weights and ask again (Zhang et al. 2025, arXiv 2410.16454).

    Unlearning that moves weights by less than half a step of the format leaves them in the original's bucket, and the
    knowledge comes back.

    Every linear layer but the vocabulary projection; norms and embeddings stay. The table `buckets` of the unlearned
    model has for each layer the share of weights that fell into another bucket than the original's, and the mean change
    in steps (there is none where that is of another architecture).
    """

    formats: Annotated[tuple[Format, ...], MinLen(1)] = ("int8", "int4", "nf4", "fp4")
    """Number formats to try."""
    backend: Literal["simulated", "bitsandbytes"] = "simulated"
    """Simulated: the same on every machine; bitsandbytes: that package's layers, without int4. See number_formats.py;
    the package's int8 is LLM.int8."""

    threat: ClassVar[Threat] = "grey"
    family: ClassVar[str] = "compression"
    reference: ClassVar[str] = "arXiv 2410.16454"
    modality: ClassVar[str] = "text"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"probes", "reference"})
    randomised: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.backend == "bitsandbytes" and "int4" in self.formats:
            raise ValueError("bitsandbytes has no int4 (it has int8, nf4 and fp4): leave it out of formats")

    def check(self, task: Task, setting: RunSetting) -> None:
        """Accept any task."""

    def attack(self, subject: Subject, setting: AttackSetting, references: References) -> AttackResult:
        """Return an outcome per format."""
        import pandas as pd

        outcomes = evaluate_variants(self, subject, setting)
        buckets = self._buckets(subject, references) if subject.role == "unlearned" else []
        tables = {"buckets": _explained(pd.DataFrame(buckets))} if buckets else {}
        return AttackResult(outcomes, budget=f"{len(self.formats)} formats", tables=tables)

    def change(self, subject: Subject, setting: AttackSetting, seed: int, visit: Visit) -> None:
        """Visit a variant per format."""
        for form in self.formats:
            visit(ChangedModel(form, self._quantised(subject, form)))

    def _quantised(self, subject: Subject, form: Format) -> Subject:
        changed = subject.copied()
        if self.backend == "bitsandbytes":
            from unlearn.attacks.weights.bitsandbytes_layers import pack

            try:
                pack(changed.module, form)
            except ImportError as error:
                raise Inapplicable("bitsandbytes is not installed: pip install bitsandbytes") from error
            return changed
        import torch

        from unlearn.models.linear import linear_weights

        with torch.no_grad():
            for _, weight in linear_weights(changed.module):
                weight.copy_(quantised(weight, form)[0])
        return changed

    def _buckets(self, subject: Subject, references: References) -> list[dict[str, object]]:
        """Return by format and layer the share of weights in another bucket than the original's, and the mean change.

        The change is in steps; nothing is returned where the two do not have the same weights.
        """
        import torch

        from unlearn.models.linear import linear_weights
        from unlearn.models.parameters import layer_of

        original, weights = dict(linear_weights(references.original().module)), dict(linear_weights(subject.module))
        if {name: w.shape for name, w in original.items()} != {name: w.shape for name, w in weights.items()}:
            return []
        sums: dict[tuple[Format, int | None], list[float]] = {}
        with torch.no_grad():
            for name, weight in weights.items():
                before = original[name].to(weight.device)
                change = (weight - before).abs()
                for form in self.formats:
                    _, bucket, _ = quantised(weight, form)
                    _, earlier, step = quantised(before, form)
                    total = sums.setdefault((form, layer_of(name)), [0.0, 0.0, 0.0])
                    total[0] += (bucket != earlier).sum().item()
                    total[1] += (change / step.clamp_min(1e-12)).sum().item()
                    total[2] += weight.numel()
        return [
            {"format": form, "layer": -1 if layer is None else layer, "moved": moved / n, "steps": steps / n}
            for (form, layer), (moved, steps, n) in sums.items()
        ]


def _explained(table: pd.DataFrame) -> Explained:
    words = (
        "How far unlearning moved the weights, on the grid of each number format. Weights that stay in the original's "
        "bucket are the original's again once they are rounded; dotted: half a step."
    )
    called = {"moved": "share of weights in another bucket", "steps": "mean change of a weight, in steps"}
    called["place"], half = "layer", {"steps": 0.5}
    chart = Chart("line", "place", ("moved", "steps"), series="format", log=("steps",), levels=half, words=called)
    shown = table.assign(place=[str(layer) if layer >= 0 else "other" for layer in table["layer"]])
    return Explained(shown, "Quantisation", words, chart)
