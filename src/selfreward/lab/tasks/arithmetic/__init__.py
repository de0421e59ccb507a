"""Tasks of arithmetic modulo 10: chains of operations in many variants, and puzzles."""
