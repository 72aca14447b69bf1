"""Tables of a report, made from the data frames of a comparison."""
