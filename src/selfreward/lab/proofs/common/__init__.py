"""What several proofs share: gates, pools of samples, rounds, efficiency."""
