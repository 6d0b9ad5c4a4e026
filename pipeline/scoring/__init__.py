"""From features, banks and text to components: language and vision scores of each image."""
