"""Controls: rewards whose meaning is known (the truth, a coin, the form alone), to measure all others against."""
