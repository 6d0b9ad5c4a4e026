"""params.yaml: its schema, how it is read, presets."""
