"""Tables and figures of tracked runs. Imports names of the engine, but never its training."""
