"""What a proof leaves behind: checks with their numbers, curves, a fingerprint, and the machine."""
