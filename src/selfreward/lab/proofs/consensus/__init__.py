"""lab.proofs.consensus."""
