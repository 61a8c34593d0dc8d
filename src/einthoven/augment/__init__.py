"""Augmentations of a batch of ECGs. Each one is a pure function and a thin class that holds its parameters.

Every function takes a signal ``x`` (``[B, L, T]`` float, mV, leads in canonical order) and a ``torch.Generator`` on the
same device. All randomness comes from the generator. The function returns a new tensor and does not change ``x``. No
function synchronises with the device. A parameter that most of them have:

``probability``
    Probability that a record is augmented, independently for each record.

Every class is called as ``transform(x, y, generator) -> (x, y)`` with labels ``y`` (``[B, K]``). Its attribute
``changes`` contains the SCP-ECG statements that it can make wrong. Signals that do not come from the heart, such as
noise, are drawn on the nine electrodes and mapped to the leads. So Einthoven's and Goldberger's laws still hold.
"""
