"""Training: one loop for every model, its optimizers, checkpoints, processes and logs."""
