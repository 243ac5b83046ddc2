"""What attacks share: who is asked what, and how an answer counts."""
