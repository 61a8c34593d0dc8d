"""Rules that turn the metrics of a run into advice. A rule: ``(history, facts, limits) -> Advice or None``."""
