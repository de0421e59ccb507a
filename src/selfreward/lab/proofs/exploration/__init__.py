"""Proofs of the claims in recipes/exploration."""
