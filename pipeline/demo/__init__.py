"""Pictures of made-up products, good and defective: a data set that needs no download."""
