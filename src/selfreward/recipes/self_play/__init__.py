"""Self-play: a model against itself, in games whose rules say who won."""
