"""The network of a run: built, loaded, taught, and measured while it trains."""
