"""What a user types and reads: options, progress, tables, and answers to mistakes."""
