"""The training loop, its checkpoints, and the precision of its forward passes. Start with `loop.py`, then `step.py`."""
