"""One run: configuration, loop, update, checkpoints; and runs side by side."""
