"""Which self-made reward can be believed here, before any training."""
