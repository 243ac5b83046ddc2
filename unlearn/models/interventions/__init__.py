"""Changes of what a model does that are no changes of its weights, and what decides on which prompts they act."""
