"""Parts of other libraries: their exact classes, run in our loop."""
