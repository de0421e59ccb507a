"""Consensus: what many of the model's own samples agree on is more often right than one of them."""
