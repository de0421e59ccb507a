"""Preference: pairs of a model's own answers, ranked by the model itself, and losses on pairs."""
