"""Proofs of the claims in recipes/agents."""
