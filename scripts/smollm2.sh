#!/usr/bin/env bash
# make repro-smollm2: a real pretrained model on a TOFU subset, on a CPU (about an hour on 2 cores): original and control models are
# trained on forget01 and the first 360 retain rows. SMOLLM2 is the model: hub id, folder or .gguf file; TOFU a local copy of the data.
set -euo pipefail
unlearn run -m dataset=tofu ${TOFU:+dataset.path="$TOFU"} ${SMOLLM2:+model.path="$SMOLLM2"} model=smollm2-135m dataset.split=forget01 \
    dataset.max_retain=360 dataset.max_new_tokens=64 evaluate.limit=40 model.finetune.lr=5e-5 model.finetune.batch_size=16 \
    train.lr=2e-5 train.batch_size=8 train.steps=25 method=npo,grad_diff,simnpo tracker=none attack=none
unlearn compare outputs/tofu-smollm2-135m-*/ --out outputs/repro-smollm2
