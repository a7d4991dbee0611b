"""One question, one file: the record that answers it, and the look that fills it."""
