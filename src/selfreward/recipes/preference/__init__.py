"""recipes.preference."""
