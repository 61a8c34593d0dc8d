"""What is done with a trained network: evaluation, Laplace approximation, embeddings and probes."""
