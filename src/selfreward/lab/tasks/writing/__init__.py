"""lab.tasks.writing."""
