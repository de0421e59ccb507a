"""lab.tasks."""
