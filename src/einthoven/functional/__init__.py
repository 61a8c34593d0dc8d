"""The ground floor: pure functions of arrays and tensors; imports nothing else of this package."""
