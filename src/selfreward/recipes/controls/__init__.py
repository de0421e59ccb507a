"""Controls: rewards whose meaning is known, to measure every other reward against."""
