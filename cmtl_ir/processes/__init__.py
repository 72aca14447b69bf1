"""Jobs in processes of their own, on this machine or on Ray. Knows jobs, not runs."""
