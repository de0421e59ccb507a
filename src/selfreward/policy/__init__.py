"""The model as four verbs (sample, score, choose, snapshot), and what the training loop asks of any policy."""
