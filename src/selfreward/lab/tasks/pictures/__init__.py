"""lab.tasks.pictures."""
