"""Augmentations of a batch of ECGs: pure functions, and beside each the thin class that holds its parameters.

Every function takes a signal ``x`` (``[B, L, T]`` float, mV, leads in canonical order) and a
``torch.Generator`` on the same device, from which all its randomness comes; it returns a new tensor and
leaves ``x`` alone. ``probability`` is that of an augmentation for each record, independently. Nothing waits
for the device.

Every class is called as ``transform(x, y, generator) -> (x, y)`` with labels ``y`` (``[B, K]``), and names in
``changes`` the SCP-ECG statements that it can make true or false. What is recorded beside the heart is drawn
on the nine electrodes and carried to the leads, so that Einthoven's and Goldberger's laws survive it.
"""
