"""The stages of a run, in order, and the commands beside them."""
