"""Training runs: a configuration becomes data, model and optimizer; the run trains, concludes and is evaluated."""
