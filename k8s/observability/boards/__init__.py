"""One module per dashboard, and what they are drawn with."""
