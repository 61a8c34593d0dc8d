"""Sweeps: one parent run, its child runs, and the space of options that they cover."""
