"""lab.tasks.programs."""
