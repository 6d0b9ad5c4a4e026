"""One module per DVC stage: read parameters, call the library, write outputs."""
