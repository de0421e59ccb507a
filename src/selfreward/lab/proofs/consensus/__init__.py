"""Proofs of the claims in recipes/consensus."""
