"""recipes.consensus."""
