"""The content-addressed feature store on zarr: planning, writing, publishing and reading segments."""
