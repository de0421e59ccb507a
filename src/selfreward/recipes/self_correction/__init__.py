"""Self-correction: a second attempt that sees the first, a verdict on it, or what would have helped."""
