"""lab.proofs.self_correction."""
