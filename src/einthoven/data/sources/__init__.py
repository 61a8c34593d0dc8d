"""One corpus -> a table of its records, with labels, folds and patients."""
