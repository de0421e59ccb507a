"""Rewards of your own: a function in a file, or any signal by its name."""
