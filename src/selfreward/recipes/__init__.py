"""Methods. ``recipes/FAMILY/NAME.py`` holds one, and is its own registration."""
