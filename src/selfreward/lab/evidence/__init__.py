"""lab.evidence."""
