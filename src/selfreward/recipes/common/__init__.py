"""What several recipes share and nobody else."""
