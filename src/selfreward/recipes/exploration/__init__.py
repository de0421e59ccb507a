"""Exploration: what to sample, how much of it, and which of it to keep, so that a run does not run dry."""
