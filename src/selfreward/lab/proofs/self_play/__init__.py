"""Proofs of the claims in recipes/self_play."""
