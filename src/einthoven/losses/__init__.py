"""Losses: pure functions of logits and targets, one value per record."""
