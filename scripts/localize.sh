#!/usr/bin/env bash
# make repro-localize: does it help to choose where to unlearn? Every localizer at about the same share of the weights (0.27: two of
# the tiny model's four MLPs), three methods, three seeds, on the built-in task (about an hour on 2 cores).
set -euo pipefail
methods=method=npo,grad_diff,simnpo
common=(tracker=none seed=0,1,2 "$methods")
unlearn run -m "${common[@]}" localize=none,ffn,attention,all_mlps,nonlocalized,flu
unlearn run -m "${common[@]}" localize=wagle,interaction,snip,gradient,magnitude,wanda,random,weight_mask localize.select=0.27
unlearn run -m "${common[@]}" localize=first_layers,last_layers localize.n=2
unlearn run -m "${common[@]}" localize=causal_tracing,attribution_patching,edge_attribution localize.select=0.27
unlearn run -m "${common[@]}" localize=ct_mlps,ap_mlps localize.blocks=2
unlearn run -m "${common[@]}" localize=random_mlps localize.count=2
unlearn run -m "${common[@]}" localize=random_matrices localize.select=0.27
unlearn compare outputs/authors-tiny-*/ --out outputs/repro-localize
