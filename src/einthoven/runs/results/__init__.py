"""The results of a run: metrics with intervals, calibration, pictures, advice, plain files and the bundle."""
