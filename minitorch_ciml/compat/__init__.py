"""Other libraries' names, for scripts that were written for them."""
