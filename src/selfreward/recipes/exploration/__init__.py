"""recipes.exploration."""
