"""lab.proofs.self_judge."""
