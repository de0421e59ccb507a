"""Self-correction: a model can learn to see and mend its own mistakes."""
