"""Stage report: the HTML report and the plots for ``dvc plots``."""
