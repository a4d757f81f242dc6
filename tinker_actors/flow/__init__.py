"""Flow control: what to do after an error, how long to wait, how much may be under way."""
