"""Exploration: self-training stalls when samples become alike, so how to sample is itself to be chosen."""
