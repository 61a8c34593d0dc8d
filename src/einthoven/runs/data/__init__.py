"""The data of a run: records are labelled, split, checked, and moved to the device."""
