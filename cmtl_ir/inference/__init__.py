"""The use of trained networks: restoring images, scoring again, loading published weights, measuring costs."""
