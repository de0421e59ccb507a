"""Recipes for proofs and the zoo of collapses: ceilings that know a task, flawed rewards, imitation of experts."""
