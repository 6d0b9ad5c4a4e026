"""From images to rows of features in the store."""
