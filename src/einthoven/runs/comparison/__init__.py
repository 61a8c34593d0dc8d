"""Compare runs: paired differences, significance, reports, and the weights between two runs."""
