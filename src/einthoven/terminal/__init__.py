"""What a user types and reads: the command-line parser, progress, tables, and answers to mistakes."""
