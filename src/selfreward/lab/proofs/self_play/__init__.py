"""lab.proofs.self_play."""
