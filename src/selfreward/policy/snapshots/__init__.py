"""Other weights beside the policy's: frozen copies, auxiliary models, the lineage of a run."""
