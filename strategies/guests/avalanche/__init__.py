"""Guests from Avalanche (MIT licence): `avalanche:EWCPlugin` runs that plugin, unmodified, in our loop.

And the other way: `to_avalanche` makes a scenario of our tasks, on which any strategy of Avalanche trains, and
`from_avalanche` makes tasks of a scenario. Avalanche is imported when one of the three is called, and not before.
"""

from ._plugins import FAMILY, host, names
from ._scenarios import from_avalanche, to_avalanche

__all__ = ["FAMILY", "from_avalanche", "host", "names", "to_avalanche"]
