"""From tracked runs to tables and figures. Imports the engine's names, never its training."""
