"""Recipes that exist for proofs and the zoo: ceilings that know a task, flawed rewards, imitation of experts."""
