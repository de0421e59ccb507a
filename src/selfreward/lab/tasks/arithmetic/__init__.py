"""lab.tasks.arithmetic."""
