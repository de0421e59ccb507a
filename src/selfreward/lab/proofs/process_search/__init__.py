"""Proofs of the claims in recipes/process_search."""
