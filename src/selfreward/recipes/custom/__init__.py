"""recipes.custom."""
