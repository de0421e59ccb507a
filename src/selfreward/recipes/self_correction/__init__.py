"""recipes.self_correction."""
