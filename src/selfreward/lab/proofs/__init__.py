"""lab.proofs."""
