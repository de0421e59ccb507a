"""Self-judge: a model grades answers better than it writes them."""
