"""Jobs in separate processes, on this machine or on Ray. This package knows jobs, not runs."""
