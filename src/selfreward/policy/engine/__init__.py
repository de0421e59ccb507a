"""Completions from a server in its own process: weights sent after each change, and never believed unmeasured."""
