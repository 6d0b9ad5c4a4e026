"""Where parallel work runs: this process, threads, processes, a cluster."""
