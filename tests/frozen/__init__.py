"""What users and machines rely on, as it was when it was promised; `make freeze` only ever adds to it."""
