"""lab.proofs.exploration."""
