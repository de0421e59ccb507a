"""lab.catalogue."""
