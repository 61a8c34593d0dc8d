"""One module per verb: it reads the arguments, calls the other packages, and prints the result."""
