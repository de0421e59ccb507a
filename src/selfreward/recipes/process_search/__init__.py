"""Process and search: steps are worth what a search from them finds."""
