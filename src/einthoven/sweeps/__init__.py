"""Sweeps: a parent run, its child runs, and the options that the sweep varies."""
