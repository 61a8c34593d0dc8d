"""The configuration of a run: read from its folder, checked before any data are read, named and hashed."""
