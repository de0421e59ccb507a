"""lab.tasks.boards."""
