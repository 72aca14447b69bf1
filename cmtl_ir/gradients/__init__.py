"""One gradient per row of a step, at the price of about one joint pass."""
