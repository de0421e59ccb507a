"""lab.proofs.process_search."""
