"""Proofs: a claim, the runs that test it, and the rules that decide, in the families of ``recipes``."""
