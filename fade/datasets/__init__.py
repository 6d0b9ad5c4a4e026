"""Finds the images of a data set on disk, in the order in which FADE's reference draws count them.

Only folder listings and tables are read here; no image is opened.
"""

from fade.datasets.detect import detect_format
from fade.datasets.read import dataset_root, iterate_dataset, read_dataset

__all__ = ["dataset_root", "detect_format", "iterate_dataset", "read_dataset"]
