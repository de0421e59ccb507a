"""Preference: the model orders its own answers, and learns from pairs of a better and a worse one."""
