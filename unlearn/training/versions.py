"""Versions of how models are trained: raised when trained weights change, and in the keys of all trainings."""

from __future__ import annotations

LOOP = 1
"""Of the training loop, its gradients and updates."""
PLAN = 1
"""Of which rows a step sees."""
POLICY = 1
"""Of how a training runs the model."""
