"""Reports: what a run folder holds, as a page, as a table on the console, and side by side with other runs."""
