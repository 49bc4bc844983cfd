"""A folder per model, a module per asset of one's own."""
