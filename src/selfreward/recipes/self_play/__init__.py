"""recipes.self_play."""
