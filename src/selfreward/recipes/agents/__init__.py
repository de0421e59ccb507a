"""Agents: a model gets better by acting (searching, calling tools) and learning from how its own episodes end."""
