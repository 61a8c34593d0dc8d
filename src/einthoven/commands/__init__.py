"""One file per verb: joins data, model, training, evaluation and report; no mathematics in it."""
