"""Tasks: the targets, the loss, the output activation and the metrics of a model."""
