"""The stored cases of published losses, and the method that reproduces each."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from unlearn.methods.dpo import DPO
from unlearn.methods.finetune import Finetune
from unlearn.methods.grad_ascent import GradAscent
from unlearn.methods.grad_diff import GradDiff
from unlearn.methods.kl import KL
from unlearn.methods.npo import NPO
from unlearn.methods.pdu import PDU
from unlearn.methods.po import PO
from unlearn.methods.rmu import RMU
from unlearn.methods.simnpo import SimNPO
from unlearn.models.batches import IGNORE, Batch, Segment
from unlearn.models.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from unlearn.methods.gradient import GradientMethod

Hyper = dict[str, Any]
Rows = dict[str, Tensor]  # input_ids, attention_mask, labels


def _open_unlearning(hyper: Hyper) -> Hyper:
    """That project's letters: gamma weighs forget, alpha weighs retain; its KL averages over padding too."""
    fields = {
        "forget_weight": hyper["gamma"],
        "retain_weight": hyper["alpha"],
        "retain_loss": hyper["retain_loss_type"].lower(),
    }
    names = {"beta": "beta", "delta": "margin"}
    return fields | {"kl_positions": "all"} | {names[k]: v for k, v in hyper.items() if k in names}


WAGLE_KL: Hyper = {"retain_loss": "kl_wagle", "kl_positions": "all"}

# case (or pattern of cases): the method that reproduces it, from the case's own hyperparameters
METHODS: dict[str, Callable[[Hyper], GradientMethod]] = {
    "open_unlearning/GradAscent": lambda h: GradAscent(),
    "open_unlearning/GradDiff_NLL": lambda h: GradDiff(**_open_unlearning(h)),
    "open_unlearning/GradDiff_NLL_*": lambda h: GradDiff(**_open_unlearning(h)),
    "open_unlearning/GradDiff_KL": lambda h: KL(**_open_unlearning(h)),
    "open_unlearning/NPO_NLL": lambda h: NPO(**_open_unlearning(h)),
    "open_unlearning/NPO_NLL_*": lambda h: NPO(**_open_unlearning(h)),
    "open_unlearning/NPO_KL": lambda h: NPO(**_open_unlearning(h)),
    "open_unlearning/NPO_forget_only": lambda h: NPO(**_open_unlearning(h)),
    "open_unlearning/DPO_NLL": lambda h: DPO(**_open_unlearning(h)),
    "open_unlearning/DPO_KL": lambda h: DPO(**_open_unlearning(h)),
    "open_unlearning/AltPO_*": lambda h: DPO(**_open_unlearning(h)),
    "open_unlearning/SimNPO_default": lambda h: SimNPO(**_open_unlearning(h)),
    "open_unlearning/SimNPO_delta*": lambda h: SimNPO(**_open_unlearning(h)),
    "open_unlearning/RMU_*": lambda h: RMU(
        layer=int(h["module_regex"].rpartition(".")[2]),
        train=None,
        forget_weight=h["gamma"],
        retain_weight=h["alpha"],
        coefficient=h["steering_coeff"],
        adaptive=False,
        reduction="reference_broadcast",
    ),
    "open_unlearning/PDU": lambda h: PDU(
        forget_weight=h["gamma"],
        retain_weight=h["alpha"],
        bound=h["retain_loss_eps"],
        rate=h["dual_step_size"],
        positions="reference_unshifted",
    ),
    "npo_repo/grad_ascent": lambda h: GradAscent(),
    "npo_repo/grad_ascent_forgetKL": lambda h: KL(retain_weight=0, forget_kl_weight=1, kl_positions="all"),
    "npo_repo/grad_diff": lambda h: GradDiff(),
    "npo_repo/KL": lambda h: KL(kl_positions="all"),
    "npo_repo/idk": lambda h: PO(pooling="joint"),
    "npo_repo/dpo": lambda h: DPO(beta=h["beta"], retain_weight=0),
    "npo_repo/dpo_grad_diff": lambda h: DPO(beta=h["beta"]),
    "npo_repo/dpo_KL": lambda h: DPO(beta=h["beta"], retain_loss="kl", kl_positions="all"),
    "npo_repo/npo": lambda h: NPO(beta=h["beta"], retain_weight=0),
    "npo_repo/npo_grad_diff": lambda h: NPO(
        beta=h["beta"], forget_weight=h["npo_coeff"], retain_weight=h["grad_diff_coeff"]
    ),
    "npo_repo/npo_KL": lambda h: NPO(
        beta=h["beta"],
        forget_weight=h["npo_coeff"],
        retain_weight=h["KL_coeff"],
        retain_loss="kl",
        kl_positions="all",
    ),
    "simnpo_repo/simnpo": lambda h: SimNPO(beta=h["beta"], margin=h["gamma"], forget_weight=1, retain_weight=0),
    "simnpo_repo/simnpo_grad_diff": lambda h: SimNPO(
        beta=h["beta"], margin=h["gamma"], forget_weight=h["npo_coeff"], retain_weight=h["grad_diff_coeff"]
    ),
    "muse_bench/ga": lambda h: GradAscent(),
    "muse_bench/ga_gdr": lambda h: GradDiff(),
    "muse_bench/ga_klr": lambda h: KL(retain_loss="kl_muse", kl_positions="all"),
    "muse_bench/npo": lambda h: NPO(beta=h["beta"], reduction="logits_muse", retain_weight=0),
    "muse_bench/npo_gdr": lambda h: NPO(beta=h["beta"], reduction="logits_muse"),
    "muse_bench/npo_klr": lambda h: NPO(
        beta=h["beta"], reduction="logits_muse", retain_loss="kl_muse", kl_positions="all"
    ),
    "simnpo_repo_muse/simnpo": lambda h: SimNPO(
        beta=h["beta"], margin=h["gamma"], reduction="logits_muse", forget_weight=h["npo_coeff"], retain_weight=0
    ),
    "simnpo_repo_muse/simnpo_gdr": lambda h: SimNPO(
        beta=h["beta"],
        margin=h["gamma"],
        reduction="logits_muse",
        forget_weight=h["npo_coeff"],
        retain_weight=h["coeff"],
    ),
    "wagle_repo/GA": lambda h: GradAscent(),
    "wagle_repo/GA+FT": lambda h: GradDiff(retain_weight=h["gamma"]),
    "wagle_repo/GA+KL": lambda h: KL(forget_weight=h["gamma"], retain_weight=1 - h["gamma"], **WAGLE_KL),
    "wagle_repo/NPO+FT": lambda h: NPO(beta=0.1, reduction="pooled_token", retain_weight=h["gamma"]),
    "wagle_repo/KL": lambda h: KL(forget_weight=0, forget_kl_weight=-h["gamma"], **WAGLE_KL),
    "wagle_repo/KL_GA": lambda h: KL(forget_weight=h["gamma"], **WAGLE_KL),
    "wagle_repo/KL_CL": lambda h: PO(forget_weight=h["gamma"], **WAGLE_KL),
    "wagle_repo/CL": lambda h: PO(retain_weight=0),
    "wagle_repo/CL+FT": lambda h: PO(retain_weight=h["gamma"]),
    "wagle_repo/CL+KL": lambda h: PO(retain_weight=h["gamma"], **WAGLE_KL),
    "wagle_repo/FT": lambda h: Finetune(),
    "smooth_repo/NPO_FT_vanilla": lambda h: NPO(beta=0.04, reduction="pooled_token"),
}

# cases of the forget side taken at perturbed weights: how far, and the method
SHARP: dict[str, tuple[float, GradientMethod]] = {
    "smooth_repo/NPO_FT_SAM": (0.01, NPO(beta=0.015, retain_weight=2.25, reduction="pooled_token")),
    "smooth_repo/NPO_FT_SAM_rho0.1_beta0.1_gamma1": (0.1, NPO(beta=0.1, reduction="pooled_token")),
    "smooth_repo/GA_FT_SAM_rho0.1": (0.1, GradDiff()),
}

# cases of components that the package does not have yet
LATER = {
    "open_unlearning/UNDIAL_*": "UNDIAL",
    "open_unlearning/CEU_*": "CE-U",
    "open_unlearning/SatImp_*": "SatImp",
    "open_unlearning/WGA*": "WGA",
    "npo_repo/kto_*": "KTO",
    "wagle_repo/l1sparse": "an L1 penalty on the weights",
    "wagle_repo/RL": "random labelling",
    "smooth_repo/NPO_FT_GNR": "a gradient penalty",
    "smooth_repo/NPO_FT_CR": "a curvature penalty",
}


class Fixture:
    """The stored weights, batches and expectations."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.expected = json.loads((folder / "expected.json").read_text())
        self.cases: dict[str, Any] = self.expected["losses"]
        self.tensors = load_file(folder / "batches.safetensors")

    def model(self, name: str, dtype: torch.dtype) -> LlamaForCausalLM:
        options = json.loads((self.folder / "config.json").read_text()) | {"attn_implementation": "eager"}
        model: Any = LlamaForCausalLM(LlamaConfig(**options))
        model.load_state_dict(load_file(self.folder / f"{name}.safetensors"))
        loaded: LlamaForCausalLM = model.to(dtype).eval()
        return loaded

    def rows(self, name: str) -> Rows:
        return {key: self.tensors[f"{name}.{key}"] for key in ("input_ids", "attention_mask", "labels")}

    def segments(self, case: str) -> dict[str, Rows]:
        """The rows that play each part in a case."""
        suffix = "_text" if "batches" in self.cases[case] else ""
        rows = {name: self.rows(name + suffix) for name in ("forget", "retain")}
        if not suffix:
            rows["refusal"] = self.overwritten(case) if case.startswith("wagle_repo/") else self.rows("idk")
        return rows

    def overwritten(self, case: str) -> Rows:
        """WAGLE's refusal rows: refusal labels on the forget rows, whose attention mask stays that of the old answer.

        The refusal also overwrites the input ids, except in KL_CL, which keeps the old answer there.
        """
        rows = self.rows("forget") | {"labels": self.tensors["forget.refused_labels"]}
        if case == "wagle_repo/KL_CL":
            return rows
        ids = rows["input_ids"].clone()
        for i, start in enumerate(self.tensors["forget.question_length"].tolist()):
            ids[i, start:] = rows["labels"][i, start:]
        ids[ids == IGNORE] = rows["input_ids"][0, -1]
        return rows | {"input_ids": ids}


def make_batch(segments: Mapping[str, Rows], reference: Policy | None) -> Batch:
    """One micro-batch that is the whole step; with the reference's nll where there is a reference."""
    ids, attention, labels = (
        torch.cat([rows[k] for rows in segments.values()]) for k in ("input_ids", "attention_mask", "labels")
    )
    placed, start = {}, 0
    for name, rows in segments.items():
        stop = start + len(rows["labels"])
        placed[name] = Segment(start, stop, stop - start, int((rows["labels"][:, 1:] != IGNORE).sum()))
        start = stop
    batch = Batch(ids, attention, labels, placed)
    if reference is None:
        return batch
    with torch.no_grad():
        known = {name: scores.sums for name, scores in reference(batch).items()}
    placed = {n: Segment(s.start, s.stop, s.total_rows, s.total_tokens, known[n]) for n, s in placed.items()}
    return Batch(batch.input_ids, batch.attention_mask, batch.labels, placed)


def check_numbers(
    fixture: Fixture, name: str, loss: float, model: nn.Module, dtype: torch.dtype, room: float = 0.0
) -> None:
    """The loss (within room, too, where it is a difference of larger terms), and the gradient of every parameter."""
    case, tolerance = fixture.cases[name], fixture.expected["tolerance"]
    double = dtype == torch.float64
    suffix = "_f64" if double else ""
    loss_tolerance = tolerance["loss_rel_float64" if double else "loss_rel_float32"]
    assert loss == pytest.approx(case["loss" + suffix], rel=loss_tolerance, abs=room), name
    gradient_tolerance = loss_tolerance if double else tolerance["grad_l2_rel_float32"]
    for parameter, weight in model.named_parameters():
        expected = case["grad_l2" + suffix][parameter]
        if expected is None:
            assert weight.grad is None or not weight.grad.any(), f"{name}: {parameter}"
            continue
        assert weight.grad is not None
        norm = weight.grad.double().norm().item()
        assert norm == pytest.approx(expected, rel=gradient_tolerance), f"{name}: {parameter}"
        dot = (weight.grad.double() * weight.double()).sum().item()
        room = gradient_tolerance * norm * weight.double().norm().item()
        assert dot == pytest.approx(case["grad_dot_param_f64"][parameter], abs=room), f"{name}: {parameter}"


def begun(fixture: Fixture, method: GradientMethod) -> dict[str, Tensor]:
    """The state before the first step; RMU's direction is the stored one."""
    if isinstance(method, RMU):
        length = torch.tensor(method.coefficient, dtype=torch.float64)
        return {"direction": fixture.tensors["rmu.unit_control_vector"].flatten().double(), "length": length}
    return method.begin(Policy(fixture.model("model", torch.float32)), [], 0)


def force_attention_mask(model: nn.Module, mask: Tensor) -> None:
    model.register_forward_pre_hook(
        lambda module, args, inputs: (args, inputs | {"attention_mask": mask}), with_kwargs=True
    )


@cache
def matching(name: str) -> list[str]:
    """The patterns of both tables that a case falls under; a name that stands there as such falls under no other."""
    patterns = [*METHODS, *SHARP, *LATER]
    return [name] if name in patterns else [p for p in patterns if fnmatchcase(name, p)]
