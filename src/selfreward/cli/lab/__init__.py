"""Commands of the lab. They are here, and not in the lab, so that everything a user types is in one room."""

from __future__ import annotations

from collections.abc import Callable

from selfreward.cli.lab.campaign import campaign
from selfreward.cli.lab.demo import demo
from selfreward.cli.lab.figure import figure
from selfreward.cli.lab.pretrain import pretrain
from selfreward.cli.lab.reproduce import reproduce
from selfreward.cli.lab.show import show
from selfreward.cli.lab.systems import systems
from selfreward.cli.lab.zoo import zoo

COMMANDS: tuple[Callable[..., None], ...] = (demo, systems, show, reproduce, figure, pretrain, zoo, campaign)
"""In the order in which the help lists them."""
