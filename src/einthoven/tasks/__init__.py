"""What is asked of a model: the loss, the output activation, the metrics."""
