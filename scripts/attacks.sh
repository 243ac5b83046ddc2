#!/usr/bin/env bash
# make repro-attacks: is it gone? The standard attacks on four methods, three seeds, on the built-in task. The attacks on
# original and control models are made once a seed and shared by the methods.
set -euo pipefail
unlearn run -m method=npo,grad_diff,simnpo,idk seed=0,1,2 tracker=none attack=standard
unlearn compare outputs/authors-tiny-*-seed[0-2]-*/ --out outputs/repro-attacks
