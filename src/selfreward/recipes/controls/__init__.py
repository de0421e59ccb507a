"""recipes.controls."""
