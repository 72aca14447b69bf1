"""Parts of other libraries: their own classes, unmodified, run in our loop."""
