"""Evaluation of a trained classifier: metrics, confidence intervals, calibration, operating points and saliency."""
