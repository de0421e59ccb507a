"""lab.proofs.likelihood."""
