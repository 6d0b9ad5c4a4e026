"""From components to maps, metrics and thresholds."""
