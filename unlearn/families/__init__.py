"""Model families: where original and control models come from, and how their kind is loaded, run, taught and saved."""
