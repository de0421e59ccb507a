"""Blocks and base classes that several recipes share; no recipe stands here."""
