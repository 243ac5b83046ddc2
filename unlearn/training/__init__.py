"""Training: one explicit loop for target and retain models and for unlearning."""
