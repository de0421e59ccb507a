"""cli.lab."""
