"""Packed signals on disk -> batches on the device."""
