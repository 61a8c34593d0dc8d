"""One file -> one `Record`: a module for each file format."""
