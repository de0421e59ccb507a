"""lab.tasks.language."""
