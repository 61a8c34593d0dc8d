"""End-to-end 12-lead ECG classification, with the mathematics of the training in sight."""

__version__ = "0.2.0"
