"""Likelihood: a model is paid for its own probabilities, of its answer or of a text that it should find likely."""
