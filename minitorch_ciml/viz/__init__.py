"""Pictures, made with matplotlib when one is asked for."""
