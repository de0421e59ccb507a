"""lab.proofs.preference."""
