"""Guests from Avalanche (MIT licence): `avalanche:EWCPlugin` runs that plugin, unmodified, in our loop.

In the opposite direction, `to_avalanche` makes a scenario of our tasks, on which any strategy of Avalanche trains, and
`from_avalanche` makes tasks of a scenario. Avalanche is imported only when one of the three is called.
"""

from ._plugins import FAMILY, host, names
from ._scenarios import from_avalanche, to_avalanche

__all__ = ["FAMILY", "from_avalanche", "host", "names", "to_avalanche"]
