"""Consensus: what most of a model's own samples say is taken for the truth."""
