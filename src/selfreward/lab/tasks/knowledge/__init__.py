"""lab.tasks.knowledge."""
