"""lab.proofs.agents."""
