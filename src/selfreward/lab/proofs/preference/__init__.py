"""Proofs of the claims in recipes/preference."""
