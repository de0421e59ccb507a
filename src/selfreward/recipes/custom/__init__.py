"""Your own: a reward function that you bring, and any named signal."""
