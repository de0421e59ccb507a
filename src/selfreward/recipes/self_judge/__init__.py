"""recipes.self_judge."""
