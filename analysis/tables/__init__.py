"""Tables from frames."""
