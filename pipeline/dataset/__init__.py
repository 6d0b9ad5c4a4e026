"""From a data set on disk to images in memory."""
