"""Translation: between two synthetic languages, and between the two of a folder of captions."""
