"""Training runs: turn a configuration into data, model and optimizer; train, conclude, resume and evaluate."""
