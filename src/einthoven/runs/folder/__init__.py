"""What the folder of a run holds: its base, and the data that it was trained on. It may come from a stranger."""
