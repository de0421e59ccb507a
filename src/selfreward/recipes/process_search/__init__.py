"""Process and search: trees of partial solutions, and what each step is worth from where it led."""
