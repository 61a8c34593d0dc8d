"""A run that starts from a trained model: read the model, take its options, and choose which stages train."""
