"""All published systems, what of each is here, and the pages of the documentation that are computed from that."""
