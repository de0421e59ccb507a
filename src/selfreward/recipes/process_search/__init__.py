"""recipes.process_search."""
