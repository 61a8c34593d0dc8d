"""Networks: signals in, logits out; one file per architecture."""
