"""Row weights from the Gramian of row gradients."""
