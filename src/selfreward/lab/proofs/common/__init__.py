"""lab.proofs.common."""
