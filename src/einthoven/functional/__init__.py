"""Pure functions of arrays and tensors. This package imports no other package of einthoven."""
