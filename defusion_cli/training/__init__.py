"""Training recipes, and what they share: checkpoints, logs, launching."""
