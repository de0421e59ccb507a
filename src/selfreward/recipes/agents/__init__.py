"""Agents: a model that looks things up, calls tools or acts in steps, and is paid for how that ends."""
