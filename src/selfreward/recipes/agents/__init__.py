"""recipes.agents."""
