"""Training: one explicit loop for original and control models and for unlearning."""
