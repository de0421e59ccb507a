"""Closed-book questions about small worlds of facts that a base has read more or less often."""
