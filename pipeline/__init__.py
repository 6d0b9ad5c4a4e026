"""The pipeline around the method: parameters, artefact paths, clusters, command line, demo, report."""
