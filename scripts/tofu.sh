#!/usr/bin/env bash
# make repro-tofu: OpenUnlearning's reproducibility table on TOFU (lr 1e-5, 10 epochs, batch 32, weights 1 and 1), with the published
# original and control models. MODEL chooses another model, TOFU a local copy of the dataset.
# Published values for Llama-3.2-1B-Instruct and Llama-2-7b-chat: OpenUnlearning, docs/repro.md.
set -euo pipefail
model=${MODEL:-llama-3.2-1b-instruct}
unlearn run -m dataset=tofu ${TOFU:+dataset.path="$TOFU"} "model=$model" dataset.split=forget01,forget05,forget10 \
    method=grad_ascent,grad_diff,dpo,npo tracker=none attack=none
unlearn run -m dataset=tofu ${TOFU:+dataset.path="$TOFU"} "model=$model" dataset.split=forget01,forget05,forget10 \
    method=simnpo method.forget_weight=1 tracker=none attack=none
unlearn compare outputs/tofu-"$model"-*/ --out "outputs/repro-tofu-$model"
