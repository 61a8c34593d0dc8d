"""Cross-validation over folds, and the label doctor, which reads its predictions."""
