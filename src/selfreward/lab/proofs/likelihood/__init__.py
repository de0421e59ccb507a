"""Proofs of the claims in recipes/likelihood."""
