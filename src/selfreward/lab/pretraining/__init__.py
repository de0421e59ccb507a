"""lab.pretraining."""
