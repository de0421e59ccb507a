"""Likelihood: the model's own probabilities say how good a text is."""
