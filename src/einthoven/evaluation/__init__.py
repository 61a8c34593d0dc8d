"""What a trained classifier is worth: metrics, intervals, calibration."""
