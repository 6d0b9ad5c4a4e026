"""Finds the images of a data set on disk, in the order in which FADE's reference draws count them.

Only folder listings and tables are read here; no image is opened.
"""

from fade.datasets.csv_table import CSV_COLUMNS, CSV_MANIFEST, read_csv
from fade.datasets.detect import detect_format
from fade.datasets.folder import read_folder
from fade.datasets.labels import ANOMALY, DEFECT_LABELS, GOOD_LABELS, meaning
from fade.datasets.leftovers import Account, Leftover
from fade.datasets.listing import fault_of
from fade.datasets.mvtec import read_mvtec
from fade.datasets.names import (
    IMAGE_SUFFIXES,
    UNREAD_SUFFIXES,
    is_image,
    is_text,
    plain_name,
)
from fade.datasets.overlooked import almost_named
from fade.datasets.read import dataset_root, iterate_dataset, read_dataset
from fade.datasets.visa import VISA_COLUMNS, VISA_LABELS, VISA_TABLE, read_visa

__all__ = [
    "ANOMALY",
    "CSV_COLUMNS",
    "CSV_MANIFEST",
    "DEFECT_LABELS",
    "GOOD_LABELS",
    "IMAGE_SUFFIXES",
    "UNREAD_SUFFIXES",
    "VISA_COLUMNS",
    "VISA_LABELS",
    "VISA_TABLE",
    "Account",
    "Leftover",
    "almost_named",
    "dataset_root",
    "detect_format",
    "fault_of",
    "is_image",
    "is_text",
    "iterate_dataset",
    "meaning",
    "plain_name",
    "read_csv",
    "read_dataset",
    "read_folder",
    "read_mvtec",
    "read_visa",
]
