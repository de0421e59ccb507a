"""recipes.likelihood."""
