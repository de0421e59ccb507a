"""What several tests share: models of every architecture, short runs, a stand-in for a server."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the repository
