"""What the series of a run say of it: each rule is a pure function ``(history, facts, limits) -> Advice or None``."""
