"""Claims and what tests them, on embedded toy tasks. Nothing outside imports from here but the command line."""
