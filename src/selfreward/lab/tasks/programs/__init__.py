"""Programs to be inferred from examples and judged by tests."""
