"""Training runs: turn a configuration into data, model and optimizer; train, conclude, resume and evaluate.

`train_one.py` is the beginning of a run: read on with `start.py` and `session.py`. The other modules here are the two
kinds of runs, and what resumes a run or shares it between processes. Each folder is one part of their work.
"""
